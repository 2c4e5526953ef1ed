package instruments

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/trace/noop"
)

func oneHost(address string, port int, namespace string) Server {
	return Server{Hosts: []Host{{address, port}}, Namespace: namespace}
}

func newTarget(t testing.TB) (*Target, *sdkmetric.ManualReader) {
	t.Helper()
	reader := sdkmetric.NewManualReader()
	in, err := New(Options{MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader), sdkmetric.WithCardinalityLimit(0)),
		TracerProvider: noop.NewTracerProvider(), PoolName: "pool", Server: oneHost("db", 5432, "shop")}, func() PoolState { return PoolState{} })
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, in.Close()) })
	return in.Target(nil), reader
}

func countSeries(t testing.TB, reader *sdkmetric.ManualReader, name string) (n int) {
	t.Helper()
	var rm metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(context.Background(), &rm))
	for _, scope := range rm.ScopeMetrics {
		for _, m := range scope.Metrics {
			if data, ok := m.Data.(metricdata.Histogram[float64]); ok && m.Name == name {
				n += len(data.DataPoints)
			}
		}
	}
	return n
}

func TestAnErrorsTypeIsOneOfFew(t *testing.T) {
	for want, err := range map[string]error{
		"40001":               fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: "40001"}),
		"57014":               errors.Join(context.Canceled, &pgconn.PgError{Code: "57014"}),
		"canceled":            fmt.Errorf("x: %w", context.Canceled),
		"timeout":             &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded},
		"connection_lost":     fmt.Errorf("x: %w", io.ErrUnexpectedEOF),
		"*errors.errorString": errors.New("any"),
	} {
		assert.Equal(t, want, ErrorType(err))
	}
	assert.Equal(t, "timeout", ErrorType(context.DeadlineExceeded))
	assert.Equal(t, "connection_lost", ErrorType(&net.OpError{Op: "write", Err: errors.New("reset")}))
	assert.Equal(t, "connection_lost", ErrorType(pgconn.ErrConnClosed))
}

func TestAWaitsFailureIsNotTheLastConnects(t *testing.T) {
	for kind, err := range map[string]error{
		"timeout":  errors.Join(context.DeadlineExceeded, &pgconn.PgError{Code: "53300"}),
		"canceled": errors.Join(context.Canceled, &pgconn.PgError{Code: "53300"}),
		"28P01":    &pgconn.PgError{Code: "28P01"},
	} {
		got, _ := waitFailure(err)
		assert.Equal(t, kind, got)
	}
}

func TestTheErrorsOfAStatementAreBounded(t *testing.T) {
	ctx := context.Background()
	for name, fail := range map[string]func(t *Target, i int, err error){
		"one text": func(target *Target, _ int, err error) {
			_, op := target.Begin(ctx, "select a from b")
			op.End(ctx, -1, err, "")
		},
		"a text for each": func(target *Target, i int, err error) {
			_, op := target.Begin(ctx, fmt.Sprintf("select f('%05d')", i))
			op.End(ctx, -1, err, "")
		},
		"a text that isn't cached": func(target *Target, _ int, err error) {
			_, op := target.Begin(ctx, "select a from b where c = '"+strings.Repeat("x", 5000)+"'")
			op.End(ctx, -1, err, "")
		},
		"batches": func(target *Target, _ int, err error) {
			_, op := target.BeginBatch(ctx, []string{"select a from b", "select a from b"})
			op.End(ctx, -1, err, "")
		},
	} {
		target, reader := newTarget(t)
		for i := range 10_000 {
			fail(target, i, &pgconn.PgError{Code: fmt.Sprintf("X%04d", i)})
		}
		assert.Equal(t, maxFailures+1, countSeries(t, reader, "db.client.operation.duration"), name)
	}
}

func TestTheErrorsOfATargetAreBounded(t *testing.T) {
	target, reader := newTarget(t)
	for i := range 100_000 {
		_, op := target.Begin(context.Background(), fmt.Sprintf("select a from t_%d", i%200))
		op.End(context.Background(), -1, &pgconn.PgError{Code: fmt.Sprintf("X%04d", i/200)}, "")
	}
	assert.Equal(t, maxAllFailures+200, countSeries(t, reader, "db.client.operation.duration"), "each of the 200 has one for the rest")
}

func TestAHundredThousandTextsAreFewSeries(t *testing.T) {
	target, reader := newTarget(t)
	for i := range 100_000 {
		text := fmt.Sprintf("select %d from t_%d -- %d", i, i, i)
		_, op := target.Begin(context.Background(), text)
		op.End(context.Background(), 1, nil, "")
	}
	for i := range 5000 {
		_, op := target.BeginCopy(context.Background(), fmt.Sprintf(`"c_%d"`, i))
		op.End(context.Background(), -1, nil, "")
	}
	assert.LessOrEqual(t, countSeries(t, reader, "db.client.operation.duration"), 1002)
}

func TestAPrefixedSummaryIsCutBetweenWords(t *testing.T) {
	long := strings.TrimSpace(strings.Repeat("SELECT abcdefg ", 17))
	require.LessOrEqual(t, len(long), maxSummary)
	got := prefixed("PREPARE", long)
	assert.LessOrEqual(t, len(got), maxSummary)
	assert.True(t, strings.HasPrefix("PREPARE "+long+" ", got+" "))
	assert.Equal(t, "BATCH", prefixed("BATCH", ""))
	assert.Equal(t, "BATCH", prefixed("BATCH", strings.Repeat("x", 250)))
	name := `"` + strings.Repeat(`a "" b `, 17) + `"`
	assert.Equal(t, "PREPARE SELECT "+name, prefixed("PREPARE", "SELECT "+name+" "+name), "not inside of a name")
}

func TestALongTextIsCut(t *testing.T) {
	for name, text := range map[string]string{
		"rows":           "INSERT INTO t VALUES ('?')" + strings.Repeat(", ('?')", 5000),
		"one name":       strings.Repeat("ä", 10_000),
		"one odd name":   "x" + strings.Repeat("ä", 10_000),
		"as long as can": strings.Repeat("x", maxText),
	} {
		got := shortened(text)
		assert.LessOrEqual(t, len(got), maxText+len("…"), name)
		assert.True(t, utf8.ValidString(got), name)
		assert.Equal(t, len(text) > maxText, strings.HasSuffix(got, "…"), name)
		assert.True(t, strings.HasPrefix(text, strings.TrimSuffix(got, "…")), name)
	}
	assert.True(t, strings.HasSuffix(shortened("VALUES ('?')"+strings.Repeat(",('?')", 5000)), "('?'),…"), "between tokens")
}

func TestTheTextsOfABatchAreJoinedUnlessTheyAreAlike(t *testing.T) {
	target, _ := newTarget(t)
	text := func(texts ...string) string { return target.batch(texts).Text }
	assert.Equal(t, "select '?'", text("select 1", "select 2"))
	assert.Equal(t, "select '?'; select '?'; select $1", text("select 1", "select 2", "select $1"))
	assert.Equal(t, "select $1; select '?'; select '?'", text("select $1", "select 1", "select 2"))
	many := strings.Split(strings.Repeat("select a;select b;", 50_000), ";")
	assert.LessOrEqual(t, len(text(many...)), maxText+20)
}
