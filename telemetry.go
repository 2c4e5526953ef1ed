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

// WithTracerProvider sets where spans go. Default, and nil: the global provider (otel.SetTracerProvider), whether it is
// set before or after the pool is opened; without one, spans allocate nothing.
func WithTracerProvider(p trace.TracerProvider) Option {
	return func(c *config) { c.telemetry.TracerProvider = p }
}

// WithMeterProvider sets where metrics go. Default, and nil: the global provider (otel.SetMeterProvider), whether it is
// set before or after the pool is opened; without one, metrics allocate nothing.
func WithMeterProvider(p metric.MeterProvider) Option {
	return func(c *config) { c.telemetry.MeterProvider = p }
}

// WithRootSpans sets whether a statement whose context has no span gets one, which is then the root of a trace of its
// own. Default: true.
func WithRootSpans(on bool) Option {
	return func(c *config) { c.telemetry.ParentOnly = !on }
}

// SQLCommenterMode is what [WithSQLCommenter] appends to a statement. It is a string by another name, so that a text that
// the program has read will do.
type SQLCommenterMode = string

// The modes of [WithSQLCommenter].
const (
	// SQLCommenterOff appends nothing, which is the default; so does "".
	SQLCommenterOff SQLCommenterMode = "off"
	// SQLCommenterStatic appends application (application_name) and the tags of the statement's context, such as the
	// route. Texts that are alike stay alike, so that they are prepared once.
	SQLCommenterStatic SQLCommenterMode = "static"
	// SQLCommenterFull appends the trace context of the caller's span as well (traceparent), by WithPropagator. Each text
	// is then different, and is prepared anew: use it with default_query_exec_mode=exec in the DSN.
	SQLCommenterFull SQLCommenterMode = "full"
)

// WithSQLCommenter appends tags to each statement, as sqlcommenter specifies, for the server's logs and views to tell
// who sent it. tags returns those for a statement's context, and may be nil; it must be safe for concurrent use.
//
// Keys and values are URL-encoded, nothing in them can end the comment. Statements that end in a comment already, and
// those sent by Raw, are left alone. Default: [SQLCommenterOff].
func WithSQLCommenter(mode SQLCommenterMode, tags func(ctx context.Context) map[string]string) Option {
	return func(c *config) { c.commenter, c.tags = mode, tags }
}

// WithPropagator sets how [SQLCommenterFull] writes the trace context. Default, and nil: the global
// propagator (otel.SetTextMapPropagator), whether it is set before or after the pool is opened.
func WithPropagator(p propagation.TextMapPropagator) Option {
	return func(c *config) { c.propagator = p }
}

// checkCommenter finds a mode that there isn't.
func (c *config) checkCommenter() error {
	switch c.commenter {
	case "", SQLCommenterOff, SQLCommenterStatic, SQLCommenterFull:
		return nil
	}
	return errors.New("pgprod: option WithSQLCommenter: mode must be off, static or full")
}

// sqlCommenter returns nil for mode off.
func (c *config) sqlCommenter(application string) *sqlcomment.Commenter {
	switch c.commenter {
	case SQLCommenterStatic:
		return sqlcomment.New(application, c.tags, nil)
	case SQLCommenterFull:
		return sqlcomment.New(application, c.tags, func() propagation.TextMapPropagator {
			if c.propagator != nil {
				return c.propagator
			}
			return otel.GetTextMapPropagator()
		})
	}
	return nil
}
