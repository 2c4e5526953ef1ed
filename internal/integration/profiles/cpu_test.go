package profiles

import (
	"bytes"
	"context"
	"io"
	"runtime/pprof"
	"runtime/trace"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	endpoint = "endpoint"
	summary  = "db.query.summary"
)

// label is a label of a sample, "" if it has none.
func label(s *profile.Sample, key string) string { return strings.Join(s.Label[key], " ") }

// within reports whether a sample was taken in a function, or in what that has called.
func within(s *profile.Sample, function string) bool {
	for _, l := range s.Location {
		for _, line := range l.Line {
			if strings.Contains(line.Function.Name, function) {
				return true
			}
		}
	}
	return false
}

// sampled returns the samples of a CPU profile that is taken while run runs.
func sampled(t *testing.T, run func()) []*profile.Sample {
	t.Helper()
	var data bytes.Buffer
	require.NoError(t, pprof.StartCPUProfile(&data))
	run()
	pprof.StopCPUProfile()
	p, err := profile.Parse(&data)
	require.NoError(t, err)
	return p.Sample
}

var sink int

// burn is the application's own work.
func burn() {
	for start := time.Now(); time.Since(start) < 30*time.Millisecond; {
		for n := range 10_000 {
			sink += n
		}
	}
}

func TestInACPUProfileAStatementHasItsSummaryAndItsCallersLabelsWhileATraceRuns(t *testing.T) {
	db := open(t)
	long := bytes.Repeat([]byte("a long parameter"), 1<<18)
	work := func(ctx context.Context) {
		var size int
		require.NoError(t, db.QueryRowContext(ctx, "SELECT length($1::bytea) FROM pg_am LIMIT 1", long).Scan(&size))
		require.Equal(t, len(long), size)
		burn()
	}
	var ofStatements, ofBurn int
	for round := 0; ofStatements < 5 || ofBurn < 5; round++ { // as many as it takes on a busy machine
		require.Less(t, round, 100, "%d samples of statements, %d of the application's own work", ofStatements, ofBurn)
		require.NoError(t, trace.Start(io.Discard))
		samples := sampled(t, func() {
			for range 20 {
				pprof.Do(t.Context(), pprof.Labels(endpoint, "/orders"), work)
			}
		})
		trace.Stop()
		for _, s := range samples {
			if label(s, summary) != "" {
				ofStatements++
				assert.Equal(t, []string{"SELECT pg_am", "/orders"}, []string{label(s, summary), label(s, endpoint)})
				assert.False(t, within(s, "profiles.burn"), "the label stays when the statement is over")
			}
			if within(s, "profiles.burn") {
				ofBurn++
				assert.Equal(t, "/orders", label(s, endpoint), "the caller's label is lost")
			}
		}
	}
}

func TestWhoReadsTheRowsOfAnotherKeepsItsLabels(t *testing.T) {
	db := open(t)
	var ofReader int
	for round := 0; ofReader < 5; round++ {
		require.Less(t, round, 100)
		require.NoError(t, trace.Start(io.Discard))
		samples := sampled(t, func() {
			rows, err := db.QueryContext(t.Context(), "SELECT n FROM generate_series(1, 100000) n")
			require.NoError(t, err)
			done := make(chan struct{})
			go pprof.Do(context.Background(), pprof.Labels(endpoint, "/reader"), func(context.Context) {
				defer close(done)
				for rows.Next() {
				}
				burn()
			})
			<-done
			require.NoError(t, rows.Err())
		})
		trace.Stop()
		for _, s := range samples {
			if within(s, "TestWhoReads") && label(s, endpoint) != "" {
				ofReader++
				assert.Empty(t, label(s, summary))
			}
		}
	}
}

func TestWithoutATraceAProfileHasTheCallersLabelsOnly(t *testing.T) {
	db := open(t)
	var samples int
	for round := 0; samples < 5; round++ {
		require.Less(t, round, 100)
		for _, s := range sampled(t, func() {
			pprof.Do(t.Context(), pprof.Labels(endpoint, "/orders"), func(ctx context.Context) {
				for range 200 {
					_, err := db.ExecContext(ctx, "SELECT $1::int", 1)
					require.NoError(t, err)
				}
				burn()
			})
		}) {
			samples++
			assert.Empty(t, label(s, summary))
		}
	}
}
