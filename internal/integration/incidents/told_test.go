package incidents

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/debugpage"
)

// told is all that a client tells: its log, its spans, its live page, and the error that the caller got.
type told struct {
	log     buffer
	tracers *sdktrace.TracerProvider
	spans   *tracetest.InMemoryExporter
	page    http.Handler // nil: it has none
	err     error
}

func newTold() *told {
	spans := tracetest.NewInMemoryExporter()
	return &told{spans: spans, tracers: sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))}
}

// A buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// onPage are the causes that the live page shows of statements under way, by the pids of their connections.
func (to *told) onPage(t *testing.T) map[uint32]*activity.Cause {
	answer := httptest.NewRecorder()
	to.page.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/?format=json", nil))
	var pools []debugpage.Pool
	require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &pools))
	all := map[uint32]*activity.Cause{}
	for _, h := range pools[0].Snapshot.Holders {
		if h.Cause != nil {
			all[h.PID] = h.Cause
		}
	}
	return all
}

// inError finds the cause in the error of a statement that was cut short, or of a caller that got no connection.
var inError = regexp.MustCompile(`\(seen after [^ ]+: (.*)\)$|; (perhaps it waits for itself: .*)$`)

// causes are the causes that the client names in the end: in its log, its spans and its error.
func (to *told) causes(t *testing.T) (all []string) {
	for text := range strings.Lines(to.log.String()) {
		var line struct {
			Cause   string `json:"cause"`
			Message string `json:"error_message"`
		}
		require.NoError(t, json.Unmarshal([]byte(text), &line))
		all = append(all, line.Cause, causeIn(line.Message))
	}
	for _, span := range to.spans.GetSpans() {
		for _, a := range span.Attributes {
			if a.Key == "pgprod.slow.cause" {
				all = append(all, a.Value.AsString())
			}
		}
	}
	if to.err != nil {
		all = append(all, causeIn(to.err.Error()))
	}
	return slices.DeleteFunc(all, func(cause string) bool { return cause == "" })
}

// causeIn finds the cause in an error's text, "" if there is none.
func causeIn(text string) string {
	m := inError.FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	return m[1] + m[2]
}

// commonplace are the attributes that each span of a client has, whatever happens.
var commonplace = regexp.MustCompile(`^(db\.system|db\.user|db\.name|db\.namespace|server\.|network\.|pgx\.operation|user)`)

// line is the longest span that a client has made since its last reset, and its error, in one line.
func (to *told) line() string {
	spans := slices.DeleteFunc(to.spans.GetSpans(), func(s tracetest.SpanStub) bool {
		return s.InstrumentationScope.Name == caller
	})
	if len(spans) == 0 {
		return "no span; " + to.errorText()
	}
	longest := slices.MaxFunc(spans, func(a, b tracetest.SpanStub) int { return int(lasted(a) - lasted(b)) })
	facts := []string{fmt.Sprintf("span %q of %v", longest.Name, lasted(longest).Round(time.Millisecond))}
	for _, a := range longest.Attributes {
		if !commonplace.MatchString(string(a.Key)) {
			facts = append(facts, fmt.Sprintf("%s=%s", a.Key, a.Value.String()))
		}
	}
	status := "status " + longest.Status.Code.String()
	if longest.Status.Code == codes.Error {
		status += " " + longest.Status.Description
	}
	for _, e := range longest.Events {
		status += ", event " + e.Name
		for _, a := range e.Attributes {
			status += " " + a.Value.String()
		}
	}
	return strings.Join(strings.Fields(strings.Join(append(facts, status, to.errorText()), "; ")), " ")
}

func lasted(s tracetest.SpanStub) time.Duration { return s.EndTime.Sub(s.StartTime) }

// errorText says what the caller got.
func (to *told) errorText() string {
	if to.err == nil {
		return "no error"
	}
	return "error: " + to.err.Error()
}
