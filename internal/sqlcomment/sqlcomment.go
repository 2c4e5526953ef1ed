// Package sqlcomment appends tags to a statement, as sqlcommenter specifies, so that the server's logs and views show who
// sent it: select 1 /*application='shop',route='%2Fcart'*/.
package sqlcomment

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// A Commenter appends tags to statements. It is safe for concurrent use, if its functions are.
type Commenter struct {
	application string
	tags        func(context.Context) map[string]string // nil: none
	propagator  func() propagation.TextMapPropagator    // nil: no trace context
	constant    string                                  // the comment, if it is the same for all statements; "": it may differ
}

// New returns a Commenter. Each comment has the tag application, unless that is empty; the tags that the function tags
// returns for a statement's context (nil: none); and what propagator's result injects from the context (nil: no trace
// context).
func New(application string, tags func(context.Context) map[string]string, propagator func() propagation.TextMapPropagator) *Commenter {
	c := &Commenter{application: application, tags: tags, propagator: propagator}
	if tags == nil && propagator == nil {
		c.constant = c.comment(context.Background())
	}
	return c
}

// Append returns sql with the comment at its end. It returns sql as it is if that is empty, if it ends with */ already, or
// if there are no tags.
func (c *Commenter) Append(ctx context.Context, sql string) string {
	trimmed := strings.TrimRight(sql, " \t\r\n")
	if trimmed == "" || strings.HasSuffix(trimmed, closes) {
		return sql
	}
	comment := c.constant
	if comment == "" {
		comment = c.comment(ctx)
	}
	if comment == "" {
		return sql
	}
	return sql + comment
}

// Sampled returns the propagator of W3C's traceparent that writes nothing for a context whose span isn't sampled.
func Sampled() propagation.TextMapPropagator { return sampled{} }

type sampled struct{ propagation.TraceContext }

var _ propagation.TextMapPropagator = sampled{}

// Inject implements propagation.TextMapPropagator.
func (s sampled) Inject(ctx context.Context, carrier propagation.TextMapCarrier) {
	if trace.SpanContextFromContext(ctx).IsSampled() {
		s.TraceContext.Inject(ctx, carrier)
	}
}

const (
	opens  = "\n/*"
	closes = "*/"
)

// Bare returns sql without a comment at its end as Append makes it: one on a line of its own. If the application itself has
// written such a comment, that is taken away as well, which changes nothing for the server.
func Bare(sql string) string {
	if !strings.HasSuffix(sql, closes) {
		return sql
	}
	at := strings.LastIndex(sql, opens)
	if at < 0 || at+len(opens) > len(sql)-len(closes) || strings.Contains(sql[at+len(opens):len(sql)-len(closes)], closes) {
		return sql // the */ at the end belongs to another comment
	}
	return sql[:at]
}

// comment returns the comment for a statement with this context. It begins with a newline, since the statement may end in a
// comment that goes on to the end of its line (-- …).
func (c *Commenter) comment(ctx context.Context) string {
	tags := map[string]string{"application": c.application}
	if c.tags != nil {
		maps.Copy(tags, c.tags(ctx))
	}
	if c.propagator != nil {
		c.propagator().Inject(ctx, propagation.MapCarrier(tags))
	}
	pairs := make([]string, 0, len(tags))
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		if key != "" && tags[key] != "" {
			pairs = append(pairs, escape(key)+"='"+escape(tags[key])+"'")
		}
	}
	if len(pairs) == 0 {
		return ""
	}
	return opens + strings.Join(pairs, ",") + closes
}

// escape encodes a key or a value as in a URL. What could end the quotes or the comment is encoded: ' is %27, * is %2A, / is
// %2F.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
