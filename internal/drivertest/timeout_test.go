package drivertest

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// Statements that never end by themselves, as far as the tests are concerned.
const forever = "select pg_sleep(600)"

// laterRow returns a first row, large enough for the server to send it, and then nothing.
const laterRow = "select i, repeat('x', 100000), pg_sleep(case when i > 1 then 600 else 0 end) from generate_series(1, 3) i"

// ways are how a statement can run; each takes until ctx ends, or for ever, if query does.
var ways = map[string]func(ctx context.Context, db *sql.DB) error{
	"Exec": func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, forever)
		return err
	},
	"Exec with arguments": func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, "select pg_sleep($1)", 600)
		return err
	},
	"the first row": func(ctx context.Context, db *sql.DB) error {
		rows, err := db.QueryContext(ctx, forever)
		if err == nil {
			_ = rows.Close()
		}
		return err
	},
	"a later row": func(ctx context.Context, db *sql.DB) error {
		rows, err := db.QueryContext(ctx, laterRow)
		if err != nil {
			return fmt.Errorf("at the first row: %v", err) // not %w: it is not what the test wants
		}
		defer rows.Close()
		for rows.Next() {
		}
		return rows.Err()
	},
	"a prepared statement": func(ctx context.Context, db *sql.DB) error {
		st, err := db.Prepare("select pg_sleep($1)")
		if err != nil {
			return fmt.Errorf("prepare: %v", err)
		}
		defer st.Close()
		_, err = st.ExecContext(ctx, 600)
		return err
	},
	"in a transaction": func(ctx context.Context, db *sql.DB) error {
		tx, err := db.Begin()
		if err != nil {
			return fmt.Errorf("begin: %v", err)
		}
		defer func() { _ = tx.Rollback() }()
		_, err = tx.ExecContext(ctx, forever)
		return err
	},
	"COPY through Raw": func(ctx context.Context, db *sql.DB) error {
		return pgprod.Raw(context.Background(), db, func(conn *pgx.Conn) error {
			_, err := conn.CopyFrom(ctx, pgx.Identifier{"slow"}, []string{"a"}, pgx.CopyFromRows([][]any{{1}, {2}}))
			return err
		})
	},
	"a query through Raw": func(ctx context.Context, db *sql.DB) error {
		return pgprod.Raw(context.Background(), db, func(conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, forever)
			return err
		})
	},
	"a transaction through Raw": func(ctx context.Context, db *sql.DB) error {
		return pgprod.Raw(context.Background(), db, func(conn *pgx.Conn) error {
			tx, err := conn.Begin(context.Background())
			if err != nil {
				return fmt.Errorf("begin: %v", err)
			}
			defer func() { _ = tx.Rollback(context.Background()) }() // a statement of its own
			_, err = tx.Exec(ctx, forever)
			return fmt.Errorf("in the middle: %w", err)
		})
	},
	"a batch through Raw": func(ctx context.Context, db *sql.DB) error {
		return pgprod.Raw(context.Background(), db, func(conn *pgx.Conn) error {
			var batch pgx.Batch
			batch.Queue(forever)
			return conn.SendBatch(ctx, &batch).Close()
		})
	},
}

// slowTable makes a table whose inserts take for ever.
func slowTable(t testing.TB, dsn string) {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	require.NoError(t, err)
	defer db.Close()
	mustExec(t, db, `create table slow (a int);
		create function wait() returns trigger language plpgsql as $$ begin perform pg_sleep(600); return new; end $$;
		create trigger wait before insert on slow for each row execute function wait()`)
}

func TestCommandTimeoutEndsEveryKindOfStatementAndKeepsTheConnection(t *testing.T) {
	t.Parallel()
	for name, run := range ways {
		for _, mode := range []string{"cache_statement", "simple_protocol"} {
			t.Run(name+" "+mode, func(t *testing.T) {
				t.Parallel()
				const limit = 500 * time.Millisecond
				dsn := pgtest.NewDatabase(t)
				slowTable(t, dsn)
				db := openPool(t, oneConn(dsn, "command_timeout", limit.String(), "default_query_exec_mode", mode))
				pgtest.Confirmed(t, func(t *pgtest.Trial) {
					pid := backendPID(t, db)
					start := time.Now()
					err := t.Cut(limit, func() error { return run(context.Background(), db) })
					assert.GreaterOrEqual(t, time.Since(start), limit, "not too early")
					requireCut(t, err, context.DeadlineExceeded)
					assert.ErrorContains(t, err, "command_timeout (500ms)")
					requireNothingRuns(t, dsn)
					assert.Equal(t, pid, backendPID(t, db))
				})
			})
		}
	}
}

func TestTheCallersContextEndsEveryKindOfStatementAndKeepsTheConnection(t *testing.T) {
	t.Parallel()
	for name, run := range ways {
		for _, cause := range []error{context.DeadlineExceeded, context.Canceled} {
			t.Run(name+" "+cause.Error(), func(t *testing.T) {
				t.Parallel()
				dsn := pgtest.NewDatabase(t)
				slowTable(t, dsn)
				db := openPool(t, oneConn(dsn))
				pgtest.Confirmed(t, func(t *pgtest.Trial) {
					const limit = 300 * time.Millisecond
					pid := backendPID(t, db)
					ctx, cancel := context.WithCancel(t.Context())
					if cause == context.DeadlineExceeded {
						ctx, cancel = context.WithTimeout(t.Context(), limit)
					} else {
						time.AfterFunc(limit, cancel)
					}
					defer cancel()
					err := t.Cut(limit, func() error { return run(ctx, db) })
					require.ErrorIs(t, err, cause)
					assert.NotContains(t, err.Error(), "command_timeout")
					requireNothingRuns(t, dsn)
					assert.Equal(t, pid, backendPID(t, db))
				})
			})
		}
	}
}

// cutAfter has the end of a context cut a statement short.
func cutAfter(t *pgtest.Trial, limit time.Duration, q querier) error {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return t.Cut(limit, func() error {
		_, err := q.ExecContext(ctx, forever)
		return err
	})
}

// requireNothingRuns waits until no statement runs in the database of dsn.
func requireNothingRuns(t testing.TB, dsn string) {
	t.Helper()
	pgtest.Eventually(t, patience, func() bool {
		backends, err := pgtest.Shared(t).Backends(t.Context(), pgtest.DatabaseName(dsn))
		require.NoError(t, err)
		for _, b := range backends {
			if b.State == "active" {
				return false
			}
		}
		return true
	}, "the server still runs it")
}

func TestACallersDeadlineCutsWithBothErrors(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	pgtest.Confirmed(t, func(t *pgtest.Trial) {
		const limit = 300 * time.Millisecond
		require.NoError(t, db.Ping())
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		requireCut(t, t.Cut(limit, func() error {
			_, err := db.ExecContext(ctx, forever)
			return err
		}), context.DeadlineExceeded)
		require.ErrorIs(t, db.QueryRowContext(ctx, "select 1").Err(), context.DeadlineExceeded, "it has ended")
	})
}

func TestASlowReaderIsCutByCommandTimeout(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t), "command_timeout", "1s"))
	rows, err := db.Query("select repeat('x', 10000) from generate_series(1, 10000)")
	require.NoError(t, err)
	defer rows.Close()
	require.True(t, rows.Next())
	<-time.After(1200 * time.Millisecond) // the application thinks
	for rows.Next() {
	}
	require.ErrorIs(t, rows.Err(), context.DeadlineExceeded)
	require.NoError(t, rows.Close())
	require.NoError(t, db.Ping())
}

func TestAReaderSlowerThanTheGraceStillGetsTheServersWordAndKeepsTheConnection(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t), "command_timeout", "1s"))
	pid := backendPID(t, db)
	rows, err := db.Query(laterRow)
	require.NoError(t, err)
	defer rows.Close()
	require.True(t, rows.Next())
	<-time.After(2200 * time.Millisecond) // the application sleeps: the server's answer lies in the socket
	for rows.Next() {
	}
	requireCut(t, rows.Err(), context.DeadlineExceeded)
	require.NoError(t, rows.Close())
	assert.Equal(t, pid, backendPID(t, db))
}

// TestWhatHasNoTimeoutItselfLeavesThatOfTheNext: the timer that a statement has started fires in the middle of a ping.
func TestWhatHasNoTimeoutItselfLeavesThatOfTheNext(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, oneConn(proxy.DSN(), "command_timeout", "1s", "server_settings", "statement_timeout="))
	pgtest.Confirmed(t, func(t *pgtest.Trial) {
		conn := hold(t, db)
		defer conn.Close()
		for range 3 {
			mustExec(t, conn, "select 1")
			proxy.SetLatency(faultproxy.ToClient, 1300*time.Millisecond)
			require.NoError(t, conn.PingContext(t.Context()))
			proxy.SetLatency(faultproxy.ToClient, 0)
			requireCut(t, t.Cut(time.Second, func() error {
				_, err := conn.ExecContext(t.Context(), "select pg_sleep(10)")
				return err
			}), context.DeadlineExceeded)
		}
	})
}

func TestRowsThatKeepComingAreCutWhenTheCancelRequestIsLost(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, oneConn(proxy.DSN(), "command_timeout", "1s", "server_settings", "statement_timeout="))
	mustExec(t, db, "select 1")
	proxy.SilenceNew(true) // the cancel request finds nobody
	rows, err := db.Query("select repeat('x', 10000), pg_sleep(0.02) from generate_series(1, 1000)")
	require.NoError(t, err)
	n := 0
	for rows.Next() {
		n++
	}
	require.ErrorIs(t, rows.Err(), context.DeadlineExceeded)
	require.NoError(t, rows.Close())
	assert.Less(t, n, 1000)
	proxy.SilenceNew(false)
	proxy.CloseAll(faultproxy.RST)
}

func TestAnEndedContextCancelsWhatGoesPastPgxToo(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	pgtest.Confirmed(t, func(t *pgtest.Trial) {
		pid := backendPID(t, db)
		err := t.Cut(100*time.Millisecond, func() error {
			return pgprod.Raw(t.Context(), db, func(conn *pgx.Conn) error {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				_, err := conn.PgConn().CopyTo(ctx, io.Discard, "copy (select pg_sleep(60)) to stdout")
				return err
			})
		})
		require.Equal(t, "57014", sqlState(err), "%v", err)
		assert.Equal(t, pid, backendPID(t, db), "the connection lives on")
	})
}

// TestAStatementOnAConnWhoseRowsAreOpenIsRefusedAndDisturbsNothing is for the race detector, too: the rows' context ends
// meanwhile.
func TestAStatementOnAConnWhoseRowsAreOpenIsRefusedAndDisturbsNothing(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	conn := hold(t, db)
	pid := backendPID(t, conn)
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		rows, err := conn.QueryContext(ctx, "select repeat('x', 10000) from generate_series(1, 300)")
		require.NoError(t, err)
		require.True(t, rows.Next())
		go cancel()
		_ = conn.PingContext(context.Background())
		_, _ = conn.ExecContext(context.Background(), "select 1")
		_ = rows.Close()
	}
	assert.Equal(t, pid, backendPID(t, conn))
}

func TestACancelThatTheServerHasNotAcknowledgedHitsNobodyElse(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, oneConn(proxy.DSN()))
	mustExec(t, db, "select 1")
	proxy.DelayConnect(900 * time.Millisecond) // that of the cancel request: it arrives when the statement is long over
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, _ = db.ExecContext(ctx, "select pg_sleep(0.3)")
	mustExec(t, db, "select pg_sleep(1)")
	assert.Positive(t, proxy.Stats().Cancels)
}

// TestACancelThatTheServerHasNotAcknowledgedHitsNothingOfTheSameBorrowersEither has the next statements on the same connection,
// in the order in which a caller could send them.
func TestACancelThatTheServerHasNotAcknowledgedHitsNothingOfTheSameBorrowersEither(t *testing.T) {
	t.Parallel()
	exec := func(conn *sql.Conn) error {
		_, err := conn.ExecContext(t.Context(), "select pg_sleep(1.5)")
		return err
	}
	for name, next := range map[string]func(*sql.Conn) error{
		"statement": exec,
		"transaction": func(conn *sql.Conn) error {
			tx, err := conn.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			_, err = tx.Exec("select pg_sleep(1.5)")
			_ = tx.Rollback()
			return err
		},
		"in Raw": func(conn *sql.Conn) error {
			return conn.Raw(func(dc any) error {
				_, err := dc.(interface{ Conn() *pgx.Conn }).Conn().Exec(t.Context(), "select pg_sleep(1.5)")
				return err
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
			db := openPool(t, oneConn(proxy.DSN()))
			conn := hold(t, db)
			require.NoError(t, conn.PingContext(t.Context()))
			proxy.DelayConnect(900 * time.Millisecond) // that of the cancel request: it arrives when the statement is long over
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_, _ = conn.ExecContext(ctx, "select pg_sleep(0.3)")
			err := next(conn)
			require.Error(t, err)
			assert.Empty(t, sqlState(err), "%v", err)
			require.NoError(t, conn.Close())
			mustExec(t, db, "select pg_sleep(1)")
			assert.Positive(t, proxy.Stats().Cancels)
		})
	}
}

func TestTheStatementAfterOneThatLostTheConnectionHasAnErrorOfItsOwn(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	db := openPool(t, server.DSN(""))
	conn := hold(t, db)
	pid := backendPID(t, conn)
	require.NoError(t, server.FreezeBackend(pid))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	_, err := conn.ExecContext(ctx, "select 1")
	require.ErrorIs(t, err, context.Canceled)
	_, err = conn.ExecContext(context.Background(), "select 2")
	require.NotErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "before the statement was sent")
	require.NoError(t, server.ThawBackend(pid))
}

func TestAWaitForANotificationEndsWithItsContextAndCostsNoCancelRequest(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, proxy.DSN())
	raw(t, db, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(t.Context(), "listen channel"); err != nil {
			return err
		}
		for range 3 {
			if err := conn.Ping(t.Context()); err != nil { // as programs do that look after an idle connection; pgx doesn't trace it
				return err
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			_, err := conn.WaitForNotification(ctx)
			cancel()
			assert.ErrorIs(t, err, context.DeadlineExceeded)
		}
		_, err := conn.Exec(t.Context(), "notify channel")
		return err
	})
	assert.Zero(t, proxy.Stats().Cancels)
}

func TestCommandTimeoutDoesNotCountTheTimeBetweenStatements(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t), "command_timeout", "2s"))
	tx, err := db.Begin()
	require.NoError(t, err)
	start := time.Now()
	for time.Since(start) < 2500*time.Millisecond {
		mustExec(t, tx, "select pg_sleep(0.05)")
	}
	<-time.After(2200 * time.Millisecond)
	mustExec(t, tx, "select 1")
	require.NoError(t, tx.Commit())
}

func TestCommandTimeoutZeroIsNone(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t), "command_timeout", "0"))
	mustExec(t, db, "select pg_sleep(0.2)")
	assert.Equal(t, "0", get[string](t, db, "show statement_timeout"))
	pgtest.Confirmed(t, func(t *pgtest.Trial) {
		requireCut(t, cutAfter(t, 100*time.Millisecond, db), context.DeadlineExceeded)
	})
}

func TestTheServersStatementTimeoutIsABackstop(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	for commandTimeout, expected := range map[string]string{"2s": "3s", "1500ms": "2500ms", "": "31s"} {
		for _, mode := range []string{"startup", "set"} {
			db := openPool(t, with(dsn, "command_timeout", commandTimeout, "server_settings_mode", mode))
			assert.Equal(t, expected, get[string](t, db, "show statement_timeout"))
		}
	}
	db := openPool(t, oneConn(dsn, "statement_timeout", "500"))
	pid := backendPID(t, db)
	assert.Equal(t, "500ms", get[string](t, db, "show statement_timeout"), "given, it stands")
	for _, err := range []error{ways["Exec"](t.Context(), db), ways["a later row"](t.Context(), db)} {
		requireCut(t, err, context.DeadlineExceeded)
		assert.ErrorContains(t, err, "statement_timeout")
	}
	assert.Equal(t, pid, backendPID(t, db))
}

func TestACancelThatNobodyHereAskedForStaysTheServersError(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	db := openPool(t, oneConn(dsn))
	pid := backendPID(t, db)
	result := make(chan error, 1)
	go func() { result <- ways["Exec"](context.Background(), db) }() // ended by pg_cancel_backend
	other := openPgx(t, dsn)
	var err error
	pgtest.Eventually(t, patience, func() bool {
		mustExec(t, other, "select pg_cancel_backend($1)", pid)
		select {
		case err = <-result:
			return true
		default:
			return false
		}
	})
	require.Equal(t, "57014", sqlState(err))
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, context.Canceled)
}

// TestNoStatementIsHitByACancelThatWasMeantForAnother has statements end at about the moment when their context does,
// each followed at once by one that nobody cancels.
func TestNoStatementIsHitByACancelThatWasMeantForAnother(t *testing.T) {
	t.Parallel()
	for name, follow := range map[string]func(conn *sql.Conn, db *sql.DB) error{
		"on the same session": func(conn *sql.Conn, _ *sql.DB) error {
			_, err := conn.ExecContext(context.Background(), "select pg_sleep(0.001)")
			return err
		},
		"with arguments": func(conn *sql.Conn, _ *sql.DB) error {
			var n int
			return conn.QueryRowContext(context.Background(), "select $1::int from pg_sleep(0.001)", 1).Scan(&n)
		},
		"in a transaction": func(conn *sql.Conn, _ *sql.DB) error {
			tx, err := conn.BeginTx(context.Background(), nil)
			if err != nil {
				return err
			}
			if _, err := tx.Exec("select pg_sleep(0.001)"); err != nil {
				return err
			}
			return tx.Commit()
		},
		"by the next borrower": func(conn *sql.Conn, db *sql.DB) error {
			if err := conn.Close(); err != nil {
				return err
			}
			_, err := db.Exec("select pg_sleep(0.001)")
			return err
		},
		"through Raw": func(conn *sql.Conn, db *sql.DB) error {
			return conn.Raw(func(dc any) error {
				_, err := dc.(interface{ Conn() *pgx.Conn }).Conn().Exec(context.Background(), "select pg_sleep(0.001)")
				return err
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const workers, rounds = 4, 200
			db := openPool(t, with(pgtest.NewDatabase(t), "pool_size", "4", "max_overflow", "0"))
			var cut, lost atomic.Int64
			var wg sync.WaitGroup
			for range workers {
				wg.Go(func() {
					for range rounds {
						conn, err := db.Conn(context.Background())
						if !assert.NoError(t, err) {
							return
						}
						ctx, cancel := context.WithTimeout(context.Background(), 500*time.Microsecond+rand.N(3*time.Millisecond))
						_, err = conn.ExecContext(ctx, "select pg_sleep(0.001)")
						cancel()
						if err != nil {
							cut.Add(1)
							assert.ErrorIs(t, err, context.DeadlineExceeded)
						}
						if err := follow(conn, db); err != nil { // the server was late to confirm, on a busy machine
							lost.Add(1)
							assert.NotErrorIs(t, err, context.DeadlineExceeded)
							assert.NotEqual(t, "57014", sqlState(err), "%v", err)
						}
						_ = conn.Close()
					}
				})
			}
			wg.Wait()
			t.Logf("%d of %d were cut", cut.Load(), workers*rounds)
			closed := statusOf(t, db).Closed["invalid"]
			assert.LessOrEqual(t, lost.Load(), closed, "nothing else fails")
			assert.LessOrEqual(t, closed, int64(workers*rounds/20), "connections survive")
		})
	}
}

// TestNoStatementEndsBeforeCommandTimeout has statements that last about as long as command_timeout allows. One that
// fails sooner was hit by the cancel of the one before.
func TestNoStatementEndsBeforeCommandTimeout(t *testing.T) {
	t.Parallel()
	const limit = 4 * time.Millisecond
	const workers, rounds = 4, 250
	db := openPool(t, with(pgtest.NewDatabase(t), "pool_size", "4", "max_overflow", "0", "command_timeout", limit.String(),
		"statement_timeout", "0"))
	var cut atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range rounds {
				seconds := (limit - time.Millisecond + rand.N(2*time.Millisecond)).Seconds()
				start := time.Now()
				_, err := db.Exec("select pg_sleep($1)", seconds)
				if err == nil {
					continue
				}
				cut.Add(1)
				assert.ErrorIs(t, err, context.DeadlineExceeded)
				assert.GreaterOrEqual(t, time.Since(start), limit)
			}
		})
	}
	wg.Wait()
	t.Logf("%d of %d were cut", cut.Load(), workers*rounds)
}

func TestAFrozenServerIsBoundedByCommandTimeoutAndAllIsWellAfterwards(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	db := openPool(t, with(server.DSN(""), "command_timeout", "1s", "connect_timeout", "1", "pool_timeout", "2s"))
	mustExec(t, db, "create table t (a int)")
	conns := []*sql.Conn{hold(t, db), hold(t, db), hold(t, db)}
	tx, err := conns[2].BeginTx(t.Context(), nil)
	require.NoError(t, err)
	mustExec(t, tx, "insert into t values (1)")
	require.NoError(t, server.Freeze())

	const limit = time.Second + time.Second + patience/2 // command_timeout, the grace, and a busy machine
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	for _, run := range []func() error{
		func() error { _, err := conns[0].ExecContext(context.Background(), "select 1"); return err },
		func() error { _, err := conns[1].ExecContext(ctx, "insert into t values ($1)", 2); return err },
		func() error {
			err := tx.Commit()
			assert.ErrorIs(t, err, pgprod.ErrCommitUnknown)
			return err
		},
	} {
		wg.Go(func() {
			start := time.Now()
			assert.ErrorIs(t, run(), context.DeadlineExceeded)
			assert.Less(t, time.Since(start), limit)
		})
	}
	wg.Wait()
	for _, conn := range conns {
		require.NoError(t, conn.Close())
	}
	within(t, limit+2*time.Second, func() {
		err := db.PingContext(t.Context())
		require.ErrorIs(t, err, pgprod.ErrPoolTimeout, "nobody answers a dial either")
	})

	require.NoError(t, server.Thaw())
	pgtest.Eventually(t, patience, func() bool { return db.Ping() == nil })
	for range 20 {
		mustExec(t, db, "select 1")
	}
	assert.Zero(t, statusOf(t, db).CheckedOut)
}

func TestAPingOfAFrozenBackendIsBounded(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	db := openPool(t, with(server.DSN(""), "connect_timeout", "1"))
	conn := hold(t, db)
	pid := backendPID(t, conn)
	require.NoError(t, server.FreezeBackend(pid))
	within(t, patience/2, func() { require.Error(t, conn.PingContext(context.Background())) })
	require.NoError(t, server.ThawBackend(pid))
	require.NoError(t, conn.Close())
	assert.NotEqual(t, pid, backendPID(t, db))
}

func TestAReplyThatNeverArrivesIsBoundedByCommandTimeout(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
			db := openPool(t, with(proxy.DSN(), "command_timeout", "1s", "default_query_exec_mode", mode))
			mustExec(t, db, "create table t (a int)")
			for _, args := range [][]any{nil, {1}} {
				query := "insert into t values (1)"
				if args != nil {
					query = "insert into t values ($1)"
				}
				mustExec(t, db, "truncate t")
				proxy.SwallowReply(faultproxy.Hold, 1, faultproxy.Containing("insert"))
				within(t, patience/2, func() {
					_, err := db.Exec(query, args...)
					require.ErrorIs(t, err, context.DeadlineExceeded)
				})
				assert.Equal(t, 1, get[int](t, db, "select count(*) from t"), "it ran once")
			}
			proxy.SwallowReply(faultproxy.Hold, 1, faultproxy.Containing("insert"))
			err := pgprod.Raw(t.Context(), db, func(conn *pgx.Conn) error {
				_, err := conn.Exec(context.Background(), "insert into t values ($1)", 2)
				return err
			})
			require.ErrorIs(t, err, context.DeadlineExceeded)
		})
	}
}
