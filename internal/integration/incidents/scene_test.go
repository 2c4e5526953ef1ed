package incidents

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// patience is how long is waited for what must happen at some time. Nothing depends on how long it takes.
const patience = time.Minute

// A scene is where one incident takes place: a database, a pool that suffers, and other programs.
type scene struct {
	*testing.T
	ctx    context.Context // of what the pool's callers do; it has a span of theirs
	direct string          // the DSN of the database, past any pooler
	db     *sql.DB         // the pool
	told   *told
	seen   []string  // what the live page showed of the statement while it was slow; none if the client has no page
	watch  *pgx.Conn // looks what the server says, and belongs to nobody in the scene
}

// caller is the tracer of the program that uses the pool.
const caller = "caller"

// newScene opens a pool on a database with a table of accounts, and nine rows in it.
func newScene(t *testing.T, c client, direct, dsn string, size int) *scene {
	s := &scene{T: t, direct: direct, told: newTold()}
	ctx, span := s.told.tracers.Tracer(caller).Start(t.Context(), "request")
	t.Cleanup(func() { span.End() })
	s.ctx = ctx
	s.watch = s.program("")
	_, err := s.watch.Exec(t.Context(), `drop table if exists accounts, stop; create table stop (n int);
		create table accounts (id int primary key, n int); insert into accounts select n, 0 from generate_series(1, 9) n`)
	require.NoError(t, err)
	s.db = c.open(t, dsn, size, s.told)
	require.NoError(t, s.db.PingContext(s.ctx))
	return s
}

// program is another program's connection to the database. The end of the test closes it.
func (s *scene) program(application string) *pgx.Conn {
	s.Helper()
	conn, err := pgx.Connect(s.Context(), pgtest.With(s.direct, "application_name", application))
	require.NoError(s, err)
	s.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// holds is another program that has begun a transaction and executed a statement in it, and the pid of its session.
func (s *scene) holds(application, statement string) (conn *pgx.Conn, pid uint32) {
	s.Helper()
	conn = s.program(application)
	_, err := conn.Exec(s.Context(), "begin; "+statement)
	require.NoError(s, err)
	return conn, conn.PgConn().PID()
}

// rollback ends a program's transaction.
func (s *scene) rollback(conn *pgx.Conn) {
	s.Helper()
	_, err := conn.Exec(s.Context(), "rollback")
	require.NoError(s, err)
}

// suffers executes a statement in the pool until it is seen in a state, and calls release, which lets it end.
func (s *scene) suffers(statement, state, event string, release func()) {
	s.Helper()
	done := make(chan error, 1)
	s.told.spans.Reset()
	go func() { // ends with the statement
		_, err := s.db.ExecContext(s.ctx, statement)
		done <- err
	}()
	s.isSeen(statement, state, event)
	release()
	s.told.err = <-done
}

// isSeen waits until the server says that a statement's session is in a state with a wait event ("": none),
// and then until a client with a live page has found out what there is to say.
func (s *scene) isSeen(statement, state, event string) {
	s.Helper()
	s.is(statement, state, event)
	if s.told.page == nil {
		s.hasLasted(statement, state)
		return
	}
	since := time.Now()
	pgtest.Eventually(s, patience, func() bool {
		for _, cause := range s.told.onPage(s.T) {
			if cause.At.After(since) {
				s.seen = append(s.seen, cause.String())
			}
		}
		return len(s.seen) > 0
	}, "nothing is said of the statement")
}

// is waits until the server says that a statement's session is in a state with a wait event.
func (s *scene) is(statement, state, event string) {
	s.Helper()
	pgtest.Eventually(s, patience, func() bool { return s.isNow(statement, state, event) },
		"no session is %s with wait event %q in: %s", state, event, statement)
}

// settles waits until a session stays in a state for a while: one that sends more than the network's buffers hold waits now
// and then before they are full.
func (s *scene) settles(statement, state, event string) {
	s.Helper()
	seen := 0
	pgtest.Eventually(s, patience, func() bool {
		if seen++; !s.isNow(statement, state, event) {
			seen = 0
		}
		return seen == 50
	}, "no session stays %s with wait event %q in: %s", state, event, statement)
}

// isNow reports whether a statement's session is in a state with a wait event, and nobody is just now asking what it waits
// for, who might have seen it before it was.
func (s *scene) isNow(statement, state, event string) (is bool) {
	s.Helper()
	require.NoError(s, s.watch.QueryRow(s.Context(), `select exists (select from pg_stat_activity
		where datname = current_database() and starts_with(query, $1) and state = $2 and coalesce(wait_event, '') = $3)
		and not exists (select from pg_stat_activity where state = 'active' and starts_with(query, 'with a as materialized'))`,
		statement, state, event).Scan(&is))
	return is
}

// hasLasted waits until a statement began so long ago that anybody would call it slow.
func (s *scene) hasLasted(statement, state string) {
	s.Helper()
	pgtest.Eventually(s, patience, func() (has bool) {
		require.NoError(s, s.watch.QueryRow(s.Context(), `select exists (select from pg_stat_activity
			where datname = current_database() and starts_with(query, $1) and state = $2 and clock_timestamp() > query_start + interval '200 ms')`,
			statement, state).Scan(&has))
		return has
	}, "the statement hasn't lasted: %s", statement)
}

// execute starts a statement of a program's, and returns a function that waits for its end.
func (s *scene) execute(conn *pgx.Conn, statement string) (wait func() error) {
	done := make(chan error, 1)
	go func() { // ends with the statement
		_, err := conn.Exec(s.Context(), statement)
		done <- err
	}()
	return func() error { return <-done }
}

// line is a pattern for the line of the caller that is so many lines further down.
func line(further int) string {
	_, file, n, _ := runtime.Caller(1)
	return fmt.Sprintf(`%s:%d`, filepath.Base(file), n+further)
}
