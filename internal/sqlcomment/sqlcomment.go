// Package sqlcomment appends tags to a statement, by the specification of sqlcommenter, so that the server's logs and
// views tell who sent it: select 1 /*application='shop',route='%2Fcart'*/.
package sqlcomment

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/propagation"
)

// A Commenter is safe for concurrent use.
type Commenter struct {
	application string
	tags        func(context.Context) map[string]string // nil: none
	propagator  func() propagation.TextMapPropagator    // nil: no trace context
	constant    string                                  // the whole comment, where nothing in it changes
}

// New returns a Commenter for the given application.
func New(application string, tags func(context.Context) map[string]string, propagator func() propagation.TextMapPropagator) *Commenter {
	c := &Commenter{application: application, tags: tags, propagator: propagator}
	if tags == nil && propagator == nil {
		c.constant = c.comment(context.Background())
	}
	return c
}

// Append returns sql with the comment. A statement that is empty, or ends in a comment already, stays as it is.
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

const (
	opens  = "\n/*"
	closes = "*/"
)

// Bare returns sql without the comment that Append has put at its end. It may take a comment of the application's for one;
// what it leaves has the same meaning.
func Bare(sql string) string {
	if !strings.HasSuffix(sql, closes) {
		return sql
	}
	at := strings.LastIndex(sql, opens)
	if at < 0 || at+len(opens) > len(sql)-len(closes) || strings.Contains(sql[at+len(opens):len(sql)-len(closes)], closes) {
		return sql // it ends another comment
	}
	return sql[:at]
}

// comment begins on a line of its own: the statement may end in a comment that reaches to the end of its line.
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

// escape is URL encoding, which leaves nothing that could end the quotes or the comment: ' is %27, * is %2A, / is %2F.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
