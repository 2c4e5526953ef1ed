package pgprod

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgprod/pgprod/internal/sqlcomment"
)

// WithTracerProvider sets where spans go. Default, and nil: the global provider (otel.SetTracerProvider), whether it is set
// before or after the pool is opened. Without a provider no spans are made, and nothing is allocated for them.
func WithTracerProvider(p trace.TracerProvider) Option {
	return func(c *config) { c.telemetry.TracerProvider = p }
}

// WithMeterProvider sets where metrics go. Default, and nil: the global provider (otel.SetMeterProvider), whether it is set
// before or after the pool is opened. Without a provider metrics allocate nothing.
func WithMeterProvider(p metric.MeterProvider) Option {
	return func(c *config) { c.telemetry.MeterProvider = p }
}

// WithRootSpans sets whether a statement whose context has no span gets a span, which is then the root of a new trace.
// Default: true.
func WithRootSpans(on bool) Option {
	return func(c *config) { c.telemetry.ParentOnly = !on }
}

// SQLCommenterMode says what [WithSQLCommenter] appends to a statement. It is an alias of string, so that a text that the
// program has read needs no conversion.
type SQLCommenterMode = string

// The modes of [WithSQLCommenter].
const (
	// SQLCommenterOff appends nothing. It is the default, and "" means the same.
	SQLCommenterOff SQLCommenterMode = "off"
	// SQLCommenterStatic appends application (application_name) and the tags for the statement's context, such as the
	// route. As long as the tags are the same the text is the same, and is prepared once.
	SQLCommenterStatic SQLCommenterMode = "static"
	// SQLCommenterFull also appends the trace context of the caller's span (traceparent), by WithPropagator. So each text is
	// different, and would be prepared each time: use it with default_query_exec_mode=exec in the DSN.
	SQLCommenterFull SQLCommenterMode = "full"
)

// WithSQLCommenter appends tags to each statement, as sqlcommenter specifies, so that the server's logs and views show who
// sent it. tags returns the tags for a statement's context; nil means none. It must be safe for concurrent use.
//
// Keys and values are URL-encoded, so that nothing in them can end the comment. Statements that end in a comment already,
// and those that are sent by Raw, are left as they are. Default: [SQLCommenterOff].
func WithSQLCommenter(mode SQLCommenterMode, tags func(ctx context.Context) map[string]string) Option {
	return func(c *config) { c.commenter, c.tags = mode, tags }
}

// WithPropagator sets how [SQLCommenterFull] writes the trace context. Default, and nil: the global
// propagator (otel.SetTextMapPropagator), whether it is set before or after the pool is opened.
func WithPropagator(p propagation.TextMapPropagator) Option {
	return func(c *config) { c.propagator = p }
}

// checkCommenter returns an error if the mode of WithSQLCommenter is none that exists.
func (c *config) checkCommenter() error {
	switch c.commenter {
	case "", SQLCommenterOff, SQLCommenterStatic, SQLCommenterFull:
		return nil
	}
	return errors.New("pgprod: option WithSQLCommenter: mode must be off, static or full")
}

// sqlCommenter returns the Commenter for the pool's statements, nil if they get no tags. sampled says that those which are
// sampled have their trace context.
func (c *config) sqlCommenter(application string, sampled bool) *sqlcomment.Commenter {
	var traced func() propagation.TextMapPropagator
	if sampled {
		traced = sqlcomment.Sampled
	}
	switch {
	case c.commenter == SQLCommenterFull:
		return sqlcomment.New(application, c.tags, func() propagation.TextMapPropagator {
			if c.propagator != nil {
				return c.propagator
			}
			return otel.GetTextMapPropagator()
		})
	case c.commenter == SQLCommenterStatic:
		return sqlcomment.New(application, c.tags, traced)
	case sampled:
		return sqlcomment.New("", nil, traced)
	}
	return nil
}
