package faulttest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// execModes are all that pgx has.
var execModes = []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"}

// ends are the ways in which a connection is lost.
var ends = map[string]faultproxy.End{"FIN": faultproxy.FIN, "RST": faultproxy.RST}

const (
	insertLiteral   = "insert into runs (note) values ('x')"
	insertParameter = "insert into runs (note) values ($1)"
	returningID     = " returning id"
	anInsert        = "insert into runs" // the simple protocol has the parameter in the text
)

// op is one thing that a program asks the database for.
type op struct {
	name string
	text string // what the server executes, in part
	rows int    // how many rows it leaves if it is executed once and its reply is lost
	run  func(db *sql.DB) error
}

var ops = []op{
	{"Exec without args", anInsert, 1, func(db *sql.DB) error {
		_, err := db.Exec(insertLiteral)
		return err
	}},
	{"Exec", anInsert, 1, func(db *sql.DB) error {
		_, err := db.Exec(insertParameter, "x")
		return err
	}},
	{"Query without args", anInsert, 1, func(db *sql.DB) error {
		return drain(db.Query(insertLiteral + returningID))
	}},
	{"Query", anInsert, 1, func(db *sql.DB) error {
		return drain(db.Query(insertParameter+returningID, "x"))
	}},
	{"QueryRow", anInsert, 1, func(db *sql.DB) error {
		var id int
		return db.QueryRow(insertParameter+returningID, "x").Scan(&id)
	}},
	{"Stmt.Exec", anInsert, 1, func(db *sql.DB) error {
		return prepared(db, insertParameter, func(stmt *sql.Stmt) error {
			_, err := stmt.Exec("x")
			return err
		})
	}},
	{"Stmt.Query", anInsert, 1, func(db *sql.DB) error {
		return prepared(db, insertParameter+returningID, func(stmt *sql.Stmt) error { return drain(stmt.Query("x")) })
	}},
	{"Stmt.Exec without args", anInsert, 1, func(db *sql.DB) error {
		return prepared(db, insertLiteral, func(stmt *sql.Stmt) error {
			_, err := stmt.Exec()
			return err
		})
	}},
	{"Tx.Exec without args", anInsert, 0, func(db *sql.DB) error {
		return inTx(db, func(tx *sql.Tx) error {
			_, err := tx.Exec(insertLiteral)
			return err
		})
	}},
	{"Tx.Exec", anInsert, 0, func(db *sql.DB) error {
		return inTx(db, func(tx *sql.Tx) error {
			_, err := tx.Exec(insertParameter, "x")
			return err
		})
	}},
	{"Tx.Query", anInsert, 0, func(db *sql.DB) error {
		return inTx(db, func(tx *sql.Tx) error { return drain(tx.Query(insertParameter+returningID, "x")) })
	}},
	{"Conn.Exec", anInsert, 1, func(db *sql.DB) error {
		conn, err := db.Conn(context.Background())
		if err != nil {
			return err
		}
		_, err = conn.ExecContext(context.Background(), insertParameter, "x")
		return errors.Join(err, conn.Close())
	}},
	{"Begin", "begin", 0, func(db *sql.DB) error {
		return inTx(db, func(tx *sql.Tx) error {
			_, err := tx.Exec(insertParameter, "x")
			return err
		})
	}},
	{"Commit", "commit", 1, func(db *sql.DB) error {
		return inTx(db, func(tx *sql.Tx) error {
			_, err := tx.Exec(insertParameter, "x")
			return err
		})
	}},
}

// drain reads rows to their end.
func drain(rows *sql.Rows, err error) error {
	if err != nil {
		return err
	}
	for rows.Next() {
	}
	return errors.Join(rows.Err(), rows.Close())
}

func prepared(db *sql.DB, text string, do func(*sql.Stmt) error) error {
	stmt, err := db.Prepare(text)
	if err != nil {
		return err
	}
	return errors.Join(do(stmt), stmt.Close())
}

// inTx runs do in a transaction and commits it, as a program does that looks at every error.
func inTx(db *sql.DB, do func(*sql.Tx) error) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		_ = tx.Rollback()
		return err
	}
	return tx.Commit()
}

// runsDatabase makes a database with the table runs, behind a proxy.
func runsDatabase(t *testing.T) (dsn string, proxy *faultproxy.Proxy) {
	t.Helper()
	dsn = pgtest.NewDatabase(t)
	exec(t, openPgx(t, dsn), "create table runs (id serial, note text)")
	return dsn, faultproxy.StartTB(t, dsn)
}

// executed counts how often the server was asked to execute a statement with this text.
func executed(proxy *faultproxy.Proxy, text string) (n int) {
	for _, s := range proxy.Stats().Statements {
		if strings.Contains(s, text) {
			n++
		}
	}
	return n
}

func TestNoStatementRunsTwiceWhenItsReplyIsLost(t *testing.T) {
	t.Parallel()
	for _, mode := range execModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			dsn, proxy := runsDatabase(t)
			judge := openPgx(t, dsn)
			db := openPool(t, with(proxy.DSN(), "default_query_exec_mode", mode, "pool_size", "4"))
			for _, o := range ops {
				for end, how := range ends {
					for _, times := range []int{1, 2} {
						t.Run(fmt.Sprintf("%s/%s/%d", o.name, end, times), func(t *testing.T) {
							exec(t, judge, "truncate runs")
							moved := loseReplies(t, proxy, db, o, how, times)
							assert.Equal(t, times*o.rows+moved, get[int](t, judge, "select count(*) from runs"))
							require.NoError(t, o.run(db), "the pool has recovered")
						})
					}
				}
			}
			assert.Zero(t, statusOf(t, db).CheckedOut)
		})
	}
}

// loseReplies runs o as many times as replies are lost in a row. A retry by anybody would be executed and counted. moved is
// how many transactions began on another connection, unnoticed, since nothing else of them had been executed.
func loseReplies(t *testing.T, proxy *faultproxy.Proxy, db *sql.DB, o op, how faultproxy.End, times int) (moved int) {
	t.Helper()
	proxy.Reset()
	proxy.SwallowReply(how, times, faultproxy.Containing(o.text))
	defer proxy.ClearRules()
	for n := range times {
		err := o.run(db)
		if err == nil && o.name == "Begin" {
			moved++
			continue
		}
		requireHonest(t, err)
		requireCause(t, err, how)
		assert.Equal(t, o.name == "Commit", errors.Is(err, pgprod.ErrCommitUnknown), "%v", err)
		if o.name != "Begin" {
			require.Equal(t, n+1, executed(proxy, o.text), "%v", err)
		}
	}
	return moved
}

// requireCause checks that an error tells how the connection was lost.
func requireCause(t *testing.T, err error, how faultproxy.End) {
	t.Helper()
	ok := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	if how == faultproxy.RST {
		ok = errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	}
	require.True(t, ok, "the cause is not to be seen: %v", err)
}

// TestPgxRunsNothingTwiceEitherAndDoesNotSayWhatBecameOfIt is what the README says of the pgx in go.mod. Up to 5.12 it told
// database/sql to repeat a statement whose reply was lost. Now it doesn't, and its error is that of the connection: with
// pgprod it says that the statement was sent and may have run, and of a COMMIT that its outcome is unknown.
func TestPgxRunsNothingTwiceEitherAndDoesNotSayWhatBecameOfIt(t *testing.T) {
	t.Parallel()
	for _, mode := range execModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			dsn, proxy := runsDatabase(t)
			judge := openPgx(t, dsn)
			theirs := openPgx(t, with(proxy.DSN(), "default_query_exec_mode", mode))
			ours := openPool(t, with(proxy.DSN(), "default_query_exec_mode", mode))
			for _, o := range ops {
				exec(t, judge, "truncate runs")
				for _, times := range []int{1, 2} {
					err := loseReply(proxy, theirs, o, times)
					require.Error(t, err, o.name)
					assert.Equal(t, 1, executed(proxy, o.text), "%s: %v", o.name, err)
					assert.Regexp(t, "conn closed|unexpected EOF", err.Error(), o.name) // so says the README
					assert.NotRegexp(t, "sent|unknown", err.Error(), o.name)
				}
				assert.Equal(t, 2*o.rows, get[int](t, judge, "select count(*) from runs"), o.name)

				if err := loseReply(proxy, ours, o, 1); err != nil || o.name != "Begin" { // which another connection may take
					assert.Regexp(t, "was sent|unknown", err, o.name)
				}
			}
		})
	}
}

// loseReply runs o once, with the connection closed in place of as many replies, should there be so many.
func loseReply(proxy *faultproxy.Proxy, db *sql.DB, o op, times int) error {
	proxy.Reset()
	proxy.SwallowReply(faultproxy.FIN, times, faultproxy.Containing(o.text))
	defer proxy.ClearRules()
	return o.run(db)
}

// cutAll ends all connections of the proxy and waits until that has come through to the clients: to a connection of
// our own, which is the last that the proxy ends.
func cutAll(t *testing.T, proxy *faultproxy.Proxy, how faultproxy.End) {
	t.Helper()
	before := proxy.Stats().Accepted
	last, err := net.Dial("tcp", proxy.Addr().String())
	require.NoError(t, err)
	defer last.Close()
	pgtest.Eventually(t, patience, func() bool { return proxy.Stats().Accepted > before })
	proxy.CloseAll(how)
	_, err = last.Read(make([]byte, 1))
	require.Error(t, err)
}

func TestAStatementThatWasNotSentRunsOnceOnAnotherConnectionUnnoticed(t *testing.T) {
	t.Parallel()
	for _, mode := range execModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			dsn, proxy := runsDatabase(t)
			judge := openPgx(t, dsn)
			for prePing, ways := range map[string]map[string]faultproxy.End{
				"auto": ends,
				"off":  {"RST": faultproxy.RST}, // the write itself fails; after a FIN it doesn't
			} {
				db := openPool(t, with(proxy.DSN(), "default_query_exec_mode", mode, "pool_pre_ping", prePing))
				for _, o := range ops {
					for end, how := range ways {
						exec(t, judge, "truncate runs")
						fill(t, db, 3)
						cutAll(t, proxy, how)
						proxy.Reset()
						require.NoError(t, o.run(db), "%s, pre-ping %s, %s", o.name, prePing, end)
						assert.Equal(t, 1, executed(proxy, o.text))
						assert.Equal(t, 1, get[int](t, judge, "select count(*) from runs"))
					}
				}
			}
		})
	}
}

// TestAStatementThatTheNetworkSwallowedIsNotRepeated: the driver can't know that it never arrived. BEGIN may be repeated,
// wherever it got to.
func TestAStatementThatTheNetworkSwallowedIsNotRepeated(t *testing.T) {
	t.Parallel()
	for _, mode := range execModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			dsn, proxy := runsDatabase(t)
			judge := openPgx(t, dsn)
			db := openPool(t, with(proxy.DSN(), "default_query_exec_mode", mode))
			for _, o := range ops {
				for _, how := range ends {
					proxy.Inject(faultproxy.Rule{Match: faultproxy.Containing(o.text), Unsent: true, End: how})
					err := o.run(db)
					rows := get[int](t, judge, "select count(*) from runs")
					if err == nil && o.name == "Begin" {
						assert.Equal(t, 1, rows)
						exec(t, judge, "truncate runs")
						continue
					}
					requireHonest(t, err)
					assert.Equal(t, o.name == "Commit", errors.Is(err, pgprod.ErrCommitUnknown), "%v", err)
					assert.Zero(t, rows, o.name)
				}
			}
		})
	}
}

func TestACommitThatWasNotSentIsNotUnknown(t *testing.T) {
	t.Parallel()
	dsn, proxy := runsDatabase(t)
	judge := openPgx(t, dsn)
	for _, mode := range execModes {
		db := openPool(t, with(proxy.DSN(), "default_query_exec_mode", mode))
		begin := func() *sql.Tx {
			tx, err := db.Begin()
			require.NoError(t, err)
			exec(t, tx, insertParameter, "x")
			return tx
		}
		notUnknown := func(err error) {
			t.Helper()
			requireHonest(t, err)
			require.NotErrorIs(t, err, pgprod.ErrCommitUnknown)
			assert.Zero(t, get[int](t, judge, "select count(*) from runs"))
		}

		tx := begin()
		cutAll(t, proxy, faultproxy.RST)
		notUnknown(tx.Commit())

		for _, how := range ends { // the program overlooked the error of its last statement
			tx = begin()
			proxy.SwallowReply(how, 1, faultproxy.Containing(insertLiteral))
			_, err := tx.Exec(insertLiteral)
			requireCause(t, err, how)
			notUnknown(tx.Commit())
		}
	}
}

// TestAReplyThatBreaksOffIsAnErrorAndNotRepeated: the caller has seen the beginning.
func TestAReplyThatBreaksOffIsAnErrorAndNotRepeated(t *testing.T) {
	t.Parallel()
	for _, mode := range execModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			dsn, proxy := runsDatabase(t)
			judge := openPgx(t, dsn)
			db := openPool(t, with(proxy.DSN(), "default_query_exec_mode", mode))
			const many = "insert into runs select from generate_series(1, 100)" + returningID
			exec(t, db, many) // so that it is prepared
			for pass := range 8 {
				for _, how := range ends {
					exec(t, judge, "truncate runs")
					proxy.Reset()
					proxy.Inject(faultproxy.Rule{Match: faultproxy.Containing(anInsert), Pass: pass, End: how})
					err := drain(db.Query(many))
					requireHonest(t, err)
					requireCause(t, err, how)
					assert.Equal(t, 1, executed(proxy, anInsert))
					assert.Equal(t, 100, get[int](t, judge, "select count(*) from runs"))
				}
			}
		})
	}
}

// TestWhatIsCutShortWithoutTheServersWordSaysWhatIsKnown: the server isn't heard any more, so that it doesn't say either that it
// has cancelled the statement.
func TestWhatIsCutShortWithoutTheServersWordSaysWhatIsKnown(t *testing.T) {
	t.Parallel()
	unanswered := func(proxy *faultproxy.Proxy) {
		proxy.Inject(faultproxy.Rule{Match: faultproxy.Containing(anInsert), End: faultproxy.Hold})
	}
	insert := func(ctx context.Context, q querier) error {
		_, err := q.ExecContext(ctx, insertParameter, "x")
		return err
	}
	for name, c := range map[string]struct {
		silence func(*faultproxy.Proxy)
		run     func(context.Context, *sql.DB) error
		says    string
		rows    int
	}{
		"Exec": {unanswered, func(ctx context.Context, db *sql.DB) error { return insert(ctx, db) },
			", whether it ran is unknown: ", 1},
		"QueryRow": {unanswered, func(ctx context.Context, db *sql.DB) error {
			return db.QueryRowContext(ctx, insertParameter+returningID, "x").Scan(new(int))
		}, ", whether it ran is unknown: ", 1},
		"in a transaction": {unanswered, func(ctx context.Context, db *sql.DB) error {
			return inTx(db, func(tx *sql.Tx) error { return insert(ctx, tx) })
		}, ", the transaction is rolled back: ", 0},
		"while it is prepared": {func(proxy *faultproxy.Proxy) {
			proxy.Arm(faultproxy.Cut{Direction: faultproxy.ToClient, End: faultproxy.Hold})
		}, func(ctx context.Context, db *sql.DB) error { return insert(ctx, db) }, " before it was executed: ", 0},
	} {
		for _, by := range []string{"the caller's deadline", "command_timeout"} {
			t.Run(name+", "+by, func(t *testing.T) {
				t.Parallel()
				dsn, proxy := runsDatabase(t)
				limit, ctx := "200ms", context.Background()
				if by != "command_timeout" {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, 200*time.Millisecond)
					defer cancel()
					limit = "1m"
				}
				db := openPool(t, with(proxy.DSN(), "command_timeout", limit))
				require.NoError(t, db.Ping())
				c.silence(proxy)
				err := c.run(ctx, db)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.ErrorContains(t, err, by)
				require.ErrorContains(t, err, c.says)
				judge := openPgx(t, dsn)
				assert.Equal(t, c.rows, get[int](t, judge, "select count(*) from runs"))
			})
		}
	}
}
