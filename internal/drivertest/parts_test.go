package drivertest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// delay is how long an injected fault takes, and most is what a part must have of it.
const (
	delay = 400 * time.Millisecond
	most  = delay * 95 / 100
)

// The attributes of a span that has the parts of its statement.
const (
	waitPart   = attribute.Key("pgprod.wait.duration")
	serverPart = attribute.Key("pgprod.server.duration")
	readPart   = attribute.Key("pgprod.read.duration")
)

// parts are where the time of a statement went.
type parts struct{ waited, server, reading, took time.Duration }

// rest is the part that is none of the three.
func (p parts) rest() time.Duration { return p.took - p.server - p.reading }

// A dissected pool tells by all ways where the time of its statements goes.
type dissected struct {
	*sql.DB
	spans *tracing
	log   *logged
}

// dissect opens a pool of one connection, which exists and has run the statement of the test.
func dissect(t *testing.T, dsn, query string, args ...any) dissected {
	t.Helper()
	d := dissected{spans: newTracing(t), log: &logged{}}
	d.DB = openPool(t, oneConn(dsn, "slow_query", most.String(), "pool_name", "parts"),
		pgprod.WithTracerProvider(d.spans.provider), d.log.option(slog.LevelInfo))
	require.NoError(t, d.Ping())
	if query != "" {
		mustExec(t, d, query, args...)
	}
	pools(t, pgprod.DebugHandler(d.DB)) // from now on statements are kept for it
	d.spans.Reset()
	return d
}

// bySpan is what the only span with a name says.
func (d dissected) bySpan(t *testing.T, name string) parts {
	t.Helper()
	span := d.spans.one(t, name)
	attrs := asMap(span.Attributes())
	in := func(key attribute.Key) time.Duration {
		seconds, ok := attrs[key].(float64)
		require.True(t, ok, "%s of %v", key, attrs)
		return time.Duration(seconds * float64(time.Second))
	}
	return parts{in(waitPart), in(serverPart), in(readPart), span.EndTime().Sub(span.StartTime())}
}

// byLine is what the last line about a slow statement says.
func (d dissected) byLine(t *testing.T, message string) parts {
	t.Helper()
	lines := d.log.lines(t, message)
	require.NotEmpty(t, lines)
	last := lines[len(lines)-1]
	in := func(key string) time.Duration {
		require.Contains(t, last, key)
		return time.Duration(last[key].(float64))
	}
	return parts{in("waited"), in("server"), in("reading"), in("duration")}
}

// byPage is what the live page says of statements with a summary.
func (d dissected) byPage(t *testing.T, summary string) parts {
	t.Helper()
	for _, s := range pools(t, pgprod.DebugHandler(d.DB))[0].Snapshot.Statements {
		if s.Summary == summary {
			assert.LessOrEqual(t, s.Server+s.Read, s.Total)
			return parts{s.Waited, s.Server, s.Read, s.Total}
		}
	}
	require.Fail(t, "the page doesn't have it", summary)
	return parts{}
}

func TestThePartOfAWaitForAConnectionIsTheWait(t *testing.T) {
	t.Parallel()
	d := dissect(t, pgtest.NewDatabase(t), "select $1::int", 1)
	holder := hold(t, d.DB)
	done := make(chan error, 1)
	go func() { _, err := d.Exec("select $1::int", 1); done <- err }() // ends when the holder gives its connection back
	pgtest.Eventually(t, patience, func() bool { return statusOf(t, d.DB).Waiting == 1 }, "nobody waits")
	time.Sleep(delay) // the fault: a full pool
	require.NoError(t, holder.Close())
	require.NoError(t, <-done)
	for _, got := range []parts{d.bySpan(t, "select"), d.byPage(t, "select")} {
		assert.GreaterOrEqual(t, got.waited, most)
	}
	require.Len(t, d.log.lines(t, "a caller waited long for a connection"), 1)
}

func TestThePartOfASlowServerIsTheServers(t *testing.T) {
	t.Parallel()
	d := dissect(t, pgtest.NewDatabase(t), "select pg_sleep($1)", 0)
	mustExec(t, d, "select pg_sleep($1)", delay.Seconds())
	for _, got := range []parts{d.bySpan(t, "select"), d.byLine(t, "slow statement"), d.byPage(t, "select")} {
		assert.GreaterOrEqual(t, got.server, most)
	}
}

func TestThePartOfASlowReaderIsTheReaders(t *testing.T) {
	t.Parallel()
	d := dissect(t, pgtest.NewDatabase(t), "")
	for _, rows := range []int{2, 100_000} { // the answer comes at once, and in many reads
		d.spans.Reset()
		result, err := d.Query("select n from generate_series(1, $1::int) n", rows)
		require.NoError(t, err)
		require.True(t, result.Next())
		time.Sleep(delay) // the fault: a caller that is busy with something else
		for result.Next() {
		}
		require.NoError(t, result.Err())
		for _, got := range []parts{d.bySpan(t, "select"), d.byLine(t, "slow statement")} {
			assert.GreaterOrEqual(t, got.reading, most, rows)
		}
	}
	assert.GreaterOrEqual(t, d.byPage(t, "select").reading, 2*most)
}

func TestWhatTheServerSaysBeforeItHasAResultIsNoResult(t *testing.T) {
	t.Parallel()
	const query = "do $$ begin raise notice 'soon'; perform pg_sleep(0.4); end $$"
	d := dissect(t, pgtest.NewDatabase(t), "")
	mustExec(t, d, query)
	assert.GreaterOrEqual(t, d.bySpan(t, "do").server, most)
}

// A slowValue takes its time to become a parameter.
type slowValue struct{}

// Value implements driver.Valuer.
func (slowValue) Value() (driver.Value, error) {
	time.Sleep(delay)
	return int64(1), nil
}

func TestTheTimeOfTheApplicationsOwnEncodingIsNoneOfTheServers(t *testing.T) {
	t.Parallel()
	d := dissect(t, pgtest.NewDatabase(t), "select $1::int", 1)
	mustExec(t, d, "select $1::int", slowValue{})
	assert.GreaterOrEqual(t, d.bySpan(t, "select").rest(), most)
}

func TestTheServersPartIsThatOfAllRoundTripsOfAStatement(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	d := dissect(t, proxy.DSN(), "")
	require.NoError(t, d.Ping())
	proxy.SetLatency(faultproxy.ToClient, delay/2) // a prepare and an execution are two
	mustExec(t, d, "select $1::int + 1", 1)
	assert.GreaterOrEqual(t, d.bySpan(t, "select").server, most)
	assert.GreaterOrEqual(t, d.byPage(t, "select").server, most)
}

func TestAStatementWithoutAnAnswerIsTheServersToTheEnd(t *testing.T) {
	t.Parallel()
	d := dissect(t, pgtest.NewDatabase(t), "")
	ctx := pgprod.ContextWithCommandTimeout(t.Context(), delay)
	_, err := d.ExecContext(ctx, "select pg_sleep($1)", 60)
	require.Error(t, err)
	assert.GreaterOrEqual(t, d.bySpan(t, "select").server, most)
	lines := d.log.lines(t, "statement failed")
	require.Len(t, lines, 1)
	assert.GreaterOrEqual(t, lines[0]["server"], float64(most))
}

func TestABatchAndACopyHaveParts(t *testing.T) {
	t.Parallel()
	d := dissect(t, pgtest.NewDatabase(t), "create table copied (n int)")
	mustExec(t, d, `create function tardy() returns trigger language plpgsql as $$
		begin perform pg_sleep(0.4); return null; end $$`)
	mustExec(t, d, "create trigger tardy after insert on copied execute function tardy()")
	require.NoError(t, pgprod.Raw(t.Context(), d.DB, func(c *pgx.Conn) error {
		var b pgx.Batch
		b.Queue("select 1")
		b.Queue("select pg_sleep($1)", delay.Seconds())
		return c.SendBatch(context.Background(), &b).Close()
	}))
	assert.GreaterOrEqual(t, d.bySpan(t, "BATCH select").server, most)
	require.NoError(t, pgprod.Raw(t.Context(), d.DB, func(c *pgx.Conn) error {
		_, err := c.CopyFrom(context.Background(), pgx.Identifier{"copied"}, []string{"n"}, pgx.CopyFromRows([][]any{{1}, {2}}))
		return err
	}))
	assert.GreaterOrEqual(t, d.bySpan(t, `COPY "copied"`).server, most)
}

func TestAFastStatementsSpanHasNoParts(t *testing.T) {
	t.Parallel()
	d := dissect(t, pgtest.NewDatabase(t), "")
	for try := 0; ; try++ { // on a busy machine some are not fast
		d.spans.Reset()
		mustExec(t, d, "select 1")
		span := d.spans.one(t, "select")
		if span.EndTime().Sub(span.StartTime()) < 50*time.Millisecond {
			assert.NotContains(t, asMap(span.Attributes()), serverPart)
			return
		}
		require.Less(t, try, 1000)
	}
}
