package sqlcomment

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

func fixed(tags map[string]string) func(context.Context) map[string]string {
	return func(context.Context) map[string]string { return tags }
}

func TestTagsAreSortedEncodedAndQuoted(t *testing.T) {
	c := New("my shop", fixed(map[string]string{"route": "/cart?a=b", "action": "it's"}), nil)
	assert.Equal(t, "select 1\n/*action='it%27s',application='my%20shop',route='%2Fcart%3Fa%3Db'*/",
		c.Append(t.Context(), "select 1"))
}

func TestWhatHasNothingToSayIsLeftAlone(t *testing.T) {
	c := New("a", nil, nil)
	for _, sql := range []string{"", " \n", "select 1 /*mine*/", "select 1 /*mine*/ \n"} {
		assert.Equal(t, sql, c.Append(t.Context(), sql))
	}
	assert.Equal(t, "select 1", New("", nil, nil).Append(t.Context(), "select 1"))
}

func TestALineCommentDoesNotSwallowTheTags(t *testing.T) {
	assert.Equal(t, "select 1 -- why\n/*application='a'*/", New("a", nil, nil).Append(t.Context(), "select 1 -- why"))
}

func TestTheTraceContextIsTheCallers(t *testing.T) {
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled})
	ctx := trace.ContextWithSpanContext(t.Context(), span)
	c := New("a", nil, func() propagation.TextMapPropagator { return propagation.TraceContext{} })
	assert.Equal(t, "select 1\n/*application='a',traceparent='00-01000000000000000000000000000000-0200000000000000-01'*/",
		c.Append(ctx, "select 1"))
}

func FuzzATagValueCannotLeaveTheComment(f *testing.F) {
	for _, s := range []string{"*/ drop table t; --", "'", `\'`, "/*", "%", "é", "\x00", "'*/"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, key, value string) {
		got := New("a", fixed(map[string]string{key: value}), nil).Append(context.Background(), "select 1")
		body, ok := strings.CutPrefix(got, "select 1\n/*")
		require.True(t, ok)
		body, ok = strings.CutSuffix(body, "*/")
		require.True(t, ok)
		require.NotContains(t, body, "*/")
		require.NotContains(t, body, "/*")
		for _, pair := range strings.Split(body, ",") {
			k, v, ok := strings.Cut(pair, "=")
			require.True(t, ok)
			require.True(t, len(v) > 2 && v[0] == '\'' && v[len(v)-1] == '\'' && !strings.Contains(v[1:len(v)-1], "'"))
			if name, _ := url.QueryUnescape(k); name == key && key != "application" {
				said, err := url.QueryUnescape(v[1 : len(v)-1])
				require.NoError(t, err)
				require.Equal(t, value, said)
			}
		}
	})
}

func TestBareTakesOffWhatAppendPutsOn(t *testing.T) {
	c := New("a", fixed(map[string]string{"route": "*/ x /*", "b": "\n/*"}), nil)
	for _, sql := range []string{"select 1", "select 1 -- why", "select 1;\n", "select '\n/*'", "/* x */ select 1", "select /* \n/* x */ */ 1"} {
		assert.Equal(t, sql, Bare(c.Append(t.Context(), sql)))
	}
	for _, sql := range []string{"", "select 1", "select 1 /*mine*/", "select 1 /* \n/* x */ */", "*/", "select 1\n/*/", "\n/*/"} {
		assert.Equal(t, sql, Bare(sql))
	}
}
