package faulttest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// accounts makes a table with n rows and as many in each.
func accounts(c client, n, each int) {
	c.t.Helper()
	c.do("create table accounts (id int primary key, amount int not null)")
	c.do("insert into accounts select i, $2 from generate_series(1, $1) i", n, each)
}

func newAccounts(t testing.TB, keysAndValues ...string) client {
	t.Helper()
	c := newClient(t, with(pgtest.NewDatabase(t), keysAndValues...))
	accounts(c, 4, 100)
	return c
}

const (
	takeOne = "update accounts set amount = amount - 1 where id = $1"
	total   = "select sum(amount) from accounts"
)

func TestInTxCommitsOnce(t *testing.T) {
	t.Parallel()
	c := newAccounts(t)
	calls := 0
	require.NoError(t, pgprod.InTx(t.Context(), c.DB, func(tx *sql.Tx) error {
		calls++
		_, err := tx.Exec(takeOne, 1)
		return err
	}))
	assert.Equal(t, 1, calls)
	assert.Equal(t, 399, c.count(total))
	assert.Zero(t, c.status().CheckedOut)
}

func TestInTxRollsBackWhateverWayFnEnds(t *testing.T) {
	t.Parallel()
	c := newAccounts(t, "pool_size", "1", "max_overflow", "0")
	pid := c.count("select pg_backend_pid()")
	take := func(tx *sql.Tx) {
		_, err := tx.Exec(takeOne, 1)
		assert.NoError(t, err)
	}

	own := errors.New("changed my mind")
	err := pgprod.InTx(t.Context(), c.DB, func(tx *sql.Tx) error { take(tx); return own })
	assert.Equal(t, own, err, "fn's own error, not wrapped")

	assert.PanicsWithValue(t, "oh", func() {
		_ = pgprod.InTx(t.Context(), c.DB, func(tx *sql.Tx) error { take(tx); panic("oh") })
	})

	var wg sync.WaitGroup
	wg.Go(func() { // a goroutine that Goexit may end
		_ = pgprod.InTx(t.Context(), c.DB, func(tx *sql.Tx) error { take(tx); runtime.Goexit(); return nil })
		t.Error("Goexit returned")
	})
	wg.Wait()

	err = pgprod.InTx(t.Context(), c.DB, func(tx *sql.Tx) error {
		take(tx)
		_, err := tx.Exec("insert into accounts values (1, 1)")
		return fmt.Errorf("mine: %w", err)
	})
	require.ErrorContains(t, err, "mine: ")
	assert.Equal(t, "23505", sqlState(err))

	assert.Equal(t, 400, c.count(total))
	assert.Equal(t, pid, c.count("select pg_backend_pid()"), "the connection lives on")
	assert.Zero(t, c.status().CheckedOut)
	require.NoError(t, pgprod.InTx(t.Context(), c.DB, func(*sql.Tx) error { return nil }))
}

func TestInTxRepeatsASerializationFailure(t *testing.T) {
	t.Parallel()
	c := newAccounts(t)
	attempts := 0
	err := pgprod.InTx(t.Context(), c.DB, func(tx *sql.Tx) error {
		attempts++
		var amount int
		if err := tx.QueryRow("select amount from accounts where id = 1").Scan(&amount); err != nil {
			return err
		}
		if attempts <= 2 { // somebody else was faster
			c.do("update accounts set amount = amount + 10 where id = 1")
		}
		_, err := tx.Exec("update accounts set amount = $1 where id = 1", amount-1)
		return err
	}, pgprod.TxIsolation(sql.LevelSerializable))
	require.NoError(t, err)
	assert.Equal(t, 3, attempts)
	assert.Equal(t, 419, c.count(total))
}

// TestInTxRepeatsWhatTheCommitRefuses is about write skew, which the server may notice as late as at COMMIT.
func TestInTxRepeatsWhatTheCommitRefuses(t *testing.T) {
	t.Parallel()
	c := newAccounts(t)
	attempts := 0
	err := pgprod.InTx(t.Context(), c.DB, func(tx *sql.Tx) error {
		attempts++
		if _, err := tx.Exec("insert into accounts select 10 + $1, sum(amount) from accounts where id < 10", attempts); err != nil {
			return err
		}
		if attempts > 1 {
			return nil
		}
		return inserterSkews(c)
	}, pgprod.TxIsolation(sql.LevelSerializable))
	require.NoError(t, err)
	assert.Equal(t, 2, attempts)
	assert.Equal(t, 1, c.count("select count(*) from accounts where id = 12"))
	assert.Zero(t, c.count("select count(*) from accounts where id = 11"), "the first attempt was rolled back")
}

// inserterSkews commits a serializable transaction that reads what another one writes, and writes what it has read.
func inserterSkews(c client) error {
	ctx := context.Background()
	tx, err := c.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.Exec("insert into accounts select 5, count(*) from accounts where id >= 10"); err != nil {
		return err
	}
	return tx.Commit()
}

func TestInTxRepeatsADeadlock(t *testing.T) {
	t.Parallel()
	c := newAccounts(t, "server_settings", "deadlock_timeout=10ms")
	var attempts atomic.Int32
	first := make(chan struct{}, 2) // a value for each that holds its first row
	both := make(chan struct{})
	go func() { // ends when both have come
		<-first
		<-first
		close(both)
	}()
	var wg sync.WaitGroup
	for _, order := range [][2]int{{1, 2}, {2, 1}} {
		wg.Go(func() {
			tries := 0
			assert.NoError(t, pgprod.InTx(t.Context(), c.DB, func(tx *sql.Tx) error {
				attempts.Add(1)
				tries++
				if _, err := tx.Exec(takeOne, order[0]); err != nil {
					return err
				}
				if tries == 1 {
					first <- struct{}{}
					<-both
				}
				_, err := tx.Exec(takeOne, order[1])
				return err
			}))
		})
	}
	wg.Wait()
	// One of the two was the victim; more than once if it is back before the other has seen that its row is free.
	assert.GreaterOrEqual(t, attempts.Load(), int32(3))
	assert.Equal(t, 396, c.count(total))
}

func TestInTxGivesUpWithAClearError(t *testing.T) {
	t.Parallel()
	c := newAccounts(t)
	conflict := func(attempts *int) func(*sql.Tx) error {
		return func(tx *sql.Tx) error {
			*attempts++
			_, err := tx.Exec("do $$ begin raise exception 'conflict' using errcode = '40001'; end $$")
			return err
		}
	}
	for retries, want := range map[int]int{0: 1, 1: 2, 3: 4} {
		attempts := 0
		err := pgprod.InTx(t.Context(), c.DB, conflict(&attempts), pgprod.TxRetries(retries))
		assert.Equal(t, want, attempts)
		require.ErrorContains(t, err, fmt.Sprintf("pgprod: InTx gave up after %d attempt", want))
		assert.Equal(t, "40001", sqlState(err))
	}
	attempts := 0
	require.Error(t, pgprod.InTx(t.Context(), c.DB, conflict(&attempts)))
	assert.Equal(t, 6, attempts, "the default")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	attempts = 0
	err := pgprod.InTx(ctx, c.DB, func(tx *sql.Tx) error {
		defer func() {
			if attempts == 3 {
				cancel()
			}
		}()
		return conflict(&attempts)(tx)
	}, pgprod.TxRetries(1000))
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, 3, attempts)
}

func TestInTxPausesBetweenItsAttemptsEverLonger(t *testing.T) {
	t.Parallel()
	c := newAccounts(t)
	start := time.Now()
	err := pgprod.InTx(t.Context(), c.DB, func(tx *sql.Tx) error {
		_, err := tx.Exec("do $$ begin raise exception 'conflict' using errcode = '40P01'; end $$")
		return err
	})
	require.Error(t, err)
	// 5, 10, 20, 40 and 80 ms, each at least by half.
	assert.GreaterOrEqual(t, time.Since(start), 77*time.Millisecond)
}

func TestInTxNeverRepeatsAnUnknownCommit(t *testing.T) {
	t.Parallel()
	for _, end := range []faultproxy.End{faultproxy.FIN, faultproxy.RST} {
		dsn := pgtest.NewDatabase(t)
		direct := newClient(t, dsn)
		accounts(direct, 1, 100)
		proxy := faultproxy.StartTB(t, dsn)
		var log logLines
		c := newClient(t, proxy.DSN(), pgprod.WithLogger(log.logger()))
		proxy.SwallowReply(end, 2, faultproxy.Containing("commit"))
		attempts := 0
		err := pgprod.InTx(t.Context(), c.DB, func(tx *sql.Tx) error {
			attempts++
			_, err := tx.Exec(takeOne, 1)
			return err
		})
		require.ErrorIs(t, err, pgprod.ErrCommitUnknown)
		assert.NotErrorIs(t, err, sql.ErrTxDone)
		assert.Equal(t, 1, attempts)
		assert.Equal(t, 99, direct.count(total), "it ran exactly once")
		assert.Regexp(t, "EOF|connection reset", log.String(), "the cause, and not that pgx closed the connection")
		assert.Zero(t, c.status().CheckedOut)
	}
}

// TestInTxRepeatsWhatALostConnectionInterrupts: without a COMMIT it is rolled back for certain.
func TestInTxRepeatsWhatALostConnectionInterrupts(t *testing.T) {
	t.Parallel()
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.NewDatabase(t)
			direct := newClient(t, dsn)
			accounts(direct, 1, 100)
			proxy := faultproxy.StartTB(t, dsn)
			c := newClient(t, proxy.DSN())
			proxy.SwallowReply(end, 2, faultproxy.Containing("update"))
			attempts := 0
			require.NoError(t, pgprod.InTx(t.Context(), c.DB, func(tx *sql.Tx) error {
				attempts++
				_, err := tx.Exec(takeOne, 1)
				return err
			}))
			assert.Equal(t, 3, attempts)
			assert.Equal(t, 99, direct.count(total), "it ran exactly once")
		})
	}
}

// TestInTxDoesNotRepeatWhatFnCommittedByText: what comes after that is no part of the transaction.
func TestInTxDoesNotRepeatWhatFnCommittedByText(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	direct := newClient(t, dsn)
	accounts(direct, 1, 100)
	proxy := faultproxy.StartTB(t, dsn)
	c := newClient(t, proxy.DSN())
	proxy.SwallowReply(faultproxy.FIN, 1, faultproxy.Containing("select 'after'"))
	attempts := 0
	err := pgprod.InTx(t.Context(), c.DB, func(tx *sql.Tx) error {
		attempts++
		_, err := tx.Exec(takeOne, 1)
		require.NoError(t, err)
		_, err = tx.Exec("commit")
		require.NoError(t, err)
		_, err = tx.Exec("select 'after'")
		return err
	})
	require.ErrorContains(t, err, "whether it ran is unknown")
	assert.Equal(t, 1, attempts)
	assert.Equal(t, 99, direct.count(total))
}

func TestInTxPassesItsOptionsOn(t *testing.T) {
	t.Parallel()
	c := newAccounts(t)
	show := func(setting string, opts ...pgprod.TxOption) (value string) {
		require.NoError(t, pgprod.InTx(t.Context(), c.DB, func(tx *sql.Tx) error {
			return tx.QueryRow("show " + setting).Scan(&value)
		}, opts...))
		return value
	}
	assert.Equal(t, "read committed", show("transaction_isolation"))
	assert.Equal(t, "repeatable read", show("transaction_isolation", pgprod.TxIsolation(sql.LevelRepeatableRead)))
	assert.Equal(t, "serializable", show("transaction_isolation", pgprod.TxIsolation(sql.LevelSerializable)))
	assert.Equal(t, "off", show("transaction_read_only"))
	assert.Equal(t, "on", show("transaction_read_only", pgprod.TxReadOnly()))
	err := pgprod.InTx(t.Context(), c.DB, func(tx *sql.Tx) error {
		_, err := tx.Exec(takeOne, 1)
		return err
	}, pgprod.TxReadOnly())
	assert.Equal(t, "25006", sqlState(err))
	err = pgprod.InTx(t.Context(), c.DB, func(*sql.Tx) error { return nil }, pgprod.TxIsolation(sql.LevelLinearizable))
	require.ErrorContains(t, err, "Linearizable")
}

func TestMisuseOfInTxIsAClearError(t *testing.T) {
	t.Parallel()
	c := newAccounts(t)
	nothing := func(*sql.Tx) error { return nil }

	//lint:ignore SA1012 the mistake that is tested
	err := pgprod.InTx(nil, c.DB, nothing) //nolint:staticcheck // the mistake that is tested
	require.EqualError(t, err, "pgprod: InTx needs a context, got nil")

	for name, end := range map[string]func(*sql.Tx) error{"Commit": (*sql.Tx).Commit, "Rollback": (*sql.Tx).Rollback} {
		err = pgprod.InTx(t.Context(), c.DB, end)
		require.ErrorContains(t, err, "InTx commits and rolls back itself, but fn ended the transaction", name)
	}

	foreign, err := sql.Open("pgx", "postgres://127.0.0.1:1/nowhere")
	require.NoError(t, err)
	defer func() { _ = foreign.Close() }()
	require.ErrorContains(t, pgprod.InTx(t.Context(), foreign, nothing), "belongs to driver *stdlib.Driver, not to pgprod")
	assert.Equal(t, 400, c.count(total))
	assert.Zero(t, c.status().CheckedOut)
}

// TestInTxDoesNotRepeatAFnThatCommittedItself: what it committed would be there twice.
func TestInTxDoesNotRepeatAFnThatCommittedItself(t *testing.T) {
	t.Parallel()
	c := newAccounts(t)
	attempts := 0
	err := pgprod.InTx(t.Context(), c.DB, func(tx *sql.Tx) error {
		attempts++
		if _, err := tx.Exec(takeOne, 1); err != nil {
			return err
		}
		if err := tx.Commit(); err != nil {
			return err
		}
		_, err := c.Exec("do $$ begin raise exception 'conflict' using errcode = '40001'; end $$")
		return err
	})
	assert.Equal(t, 1, attempts)
	require.ErrorContains(t, err, "InTx commits and rolls back itself, but fn ended the transaction")
	assert.Equal(t, "40001", sqlState(err), "fn's own error is in it")
	assert.Equal(t, 399, c.count(total))
}

func TestInTxNestsOnAnotherDatabase(t *testing.T) {
	t.Parallel()
	here, there := newAccounts(t), newAccounts(t)
	require.NoError(t, pgprod.InTx(t.Context(), here.DB, func(tx *sql.Tx) error {
		if _, err := tx.Exec(takeOne, 1); err != nil {
			return err
		}
		return pgprod.InTx(t.Context(), there.DB, func(tx *sql.Tx) error {
			_, err := tx.Exec(takeOne, 1)
			return err
		})
	}))
	assert.Equal(t, 399, here.count(total))
	assert.Equal(t, 399, there.count(total))
}

func TestInTxKeepsTheSumWhenManyUseItAtOnce(t *testing.T) {
	t.Parallel()
	c := newAccounts(t, "pool_size", "4", "max_overflow", "2", "server_settings", "deadlock_timeout=20ms")
	const goroutines, each = 24, 15
	var calls atomic.Int64
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(g)))
			for range each {
				from, to := 1+rnd.IntN(4), 1+rnd.IntN(4)
				assert.NoError(t, pgprod.InTx(t.Context(), c.DB, func(tx *sql.Tx) error {
					calls.Add(1)
					if _, err := tx.Exec(takeOne, from); err != nil {
						return err
					}
					_, err := tx.Exec("update accounts set amount = amount + 1 where id = $1", to)
					return err
				}, pgprod.TxIsolation(sql.LevelRepeatableRead), pgprod.TxRetries(1000)))
			}
		})
	}
	wg.Wait()
	t.Logf("%d transactions took %d attempts", goroutines*each, calls.Load())
	assert.Equal(t, 400, c.count(total))
	s := c.status()
	assert.Zero(t, s.CheckedOut)
	assert.LessOrEqual(t, s.PeakCheckedOut, 6)
}

func TestAContextThatEndsInInTxRollsBackAndKeepsTheConnection(t *testing.T) {
	t.Parallel()
	c := newAccounts(t, "pool_size", "1", "max_overflow", "0")
	pid := c.count("select pg_backend_pid()")

	ctx, cancel := context.WithCancel(t.Context())
	err := pgprod.InTx(ctx, c.DB, func(tx *sql.Tx) error {
		_, err := tx.Exec(takeOne, 1)
		cancel() // fn doesn't notice
		return err
	})
	require.ErrorIs(t, err, context.Canceled, "before the COMMIT")

	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err = pgprod.InTx(ctx, c.DB, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "update accounts set amount = 0 where pg_sleep(60) is not null")
		return err
	})
	require.ErrorIs(t, err, context.DeadlineExceeded, "in a statement")

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	err = pgprod.InTx(ended, c.DB, func(*sql.Tx) error { t.Error("called"); return nil })
	require.ErrorIs(t, err, context.Canceled, "before the BEGIN")

	assert.Equal(t, 400, c.count(total))
	assert.Equal(t, pid, c.count("select pg_backend_pid()"), "the connection lives on")
}
