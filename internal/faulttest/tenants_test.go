package faulttest

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// The tests of this file have workers run statements at random, many of which are cut short: by a context that ends within
// some milliseconds, or by a connection that is lost. The seed makes the statements the same each time, if not what befalls
// them.
const (
	riderSeed    = 9
	riderWorkers = 8
)

// sometimes returns a context that ends within 3 ms, or before anything is done, or not at all.
func sometimes(ctx context.Context, rnd *rand.Rand) (context.Context, context.CancelFunc) {
	if rnd.IntN(2) == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Duration(rnd.IntN(3000))*time.Microsecond)
}

// underFire calls work with the number of each worker while connections are lost at random.
func underFire(proxy *faultproxy.Proxy, work func(worker int, rnd *rand.Rand)) {
	var workers, gunner sync.WaitGroup
	over := make(chan struct{})
	gunner.Go(func() { // ends when over is closed
		rnd := rand.New(rand.NewPCG(riderSeed, riderWorkers))
		for {
			select {
			case <-over:
				return
			case <-time.After(time.Duration(rnd.IntN(100)) * time.Millisecond):
			}
			if conns := proxy.Conns(); len(conns) > 0 {
				conns[rnd.IntN(len(conns))].Close([]faultproxy.End{faultproxy.FIN, faultproxy.RST}[rnd.IntN(2)])
			}
		}
	})
	for worker := range riderWorkers {
		workers.Go(func() { work(worker, rand.New(rand.NewPCG(riderSeed, uint64(worker)))) })
	}
	workers.Wait()
	close(over)
	gunner.Wait()
}

// requireSpotless checks that the sessions of a pool show nothing of an earlier statement. All are held at once, and asked
// by the simple protocol, in which no rider travels.
func requireSpotless(t *testing.T, db *sql.DB, size int) {
	t.Helper()
	const ask = "select concat(current_setting('app.tenant', true), current_setting('application_name'))"
	for range size {
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		assert.Equal(t, "spotless", get[string](t, conn, ask, pgx.QueryExecModeSimpleProtocol))
	}
}

func TestAStatementNeverRunsWithoutItsRiders(t *testing.T) {
	t.Parallel()
	const (
		rounds = 250
		size   = 4
		insert = "insert into seen (meant, saw) select $1::text, coalesce(current_setting('app.tenant', true), '')"
	)
	for _, mode := range []string{"cache_statement", "exec"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.NewDatabase(t)
			judge := openPgx(t, dsn)
			exec(t, judge, "create table seen (meant text, saw text)")
			proxy := faultproxy.StartTB(t, dsn)
			db := openPool(t, with(proxy.DSN(), "default_query_exec_mode", mode, "pool_size", "4", "max_overflow", "0",
				"server_settings", "application_name=spotless", "trace_context", "application_name"),
				pgprod.WithTracerProvider(sdktrace.NewTracerProvider()))
			var acknowledged atomic.Int64
			underFire(proxy, func(worker int, rnd *rand.Rand) {
				tenants := []string{"A", "B"}
				own := tenants[worker%2]
				for range rounds / 2 {
					runAsTenant(db, rnd, own, tenants[rnd.IntN(2)], insert, &acknowledged)
				}
			})
			const wrong = "select count(*) from seen where meant is distinct from saw"
			assert.Zero(t, get[int](t, judge, wrong), "statements that ran for another tenant")
			for _, tenant := range []string{"A", "B", ""} {
				assert.NotZero(t, get[int](t, judge, "select count(*) from seen where meant = $1", tenant), tenant)
			}
			assert.GreaterOrEqual(t, get[int](t, judge, "select count(*) from seen"), int(acknowledged.Load()))
			requireSpotless(t, db, size)
			t.Logf("%d acknowledged, %d there", acknowledged.Load(), get[int](t, judge, "select count(*) from seen"))
		})
	}
}

// runAsTenant inserts what it was meant to see: alone for own or for nobody, or in a transaction of own, in which one
// statement is another's.
func runAsTenant(db *sql.DB, rnd *rand.Rand, own, another, insert string, acknowledged *atomic.Int64) {
	ctx, cancel := sometimes(context.Background(), rnd)
	defer cancel()
	ofOwn := pgprod.ContextWithSettings(ctx, map[string]string{"app.tenant": own})
	ofAnother := pgprod.ContextWithSettings(ctx, map[string]string{"app.tenant": another})
	inTransaction := func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ofOwn, insert, own)
		_, err2 := tx.ExecContext(ofAnother, insert, another)
		_, err3 := tx.ExecContext(ctx, insert, own) // as the transaction was begun
		return errors.Join(err, err2, err3)
	}
	var err error
	rows := int64(1)
	switch rnd.IntN(6) {
	case 0:
		_, err = db.ExecContext(ctx, insert, "")
	case 1:
		_, err = db.ExecContext(ofOwn, insert, own)
	case 2:
		var saw string
		err = db.QueryRowContext(ofOwn, insert+" returning saw", own).Scan(&saw)
	case 3:
		var stmt *sql.Stmt
		if stmt, err = db.PrepareContext(ofOwn, insert); err == nil {
			_, err = stmt.ExecContext(ofAnother, another)
			err = errors.Join(err, stmt.Close())
		}
	case 4:
		rows = 3
		var tx *sql.Tx
		if tx, err = db.BeginTx(ofOwn, nil); err == nil {
			if err = inTransaction(tx); err == nil {
				err = tx.Commit()
			} else {
				_ = tx.Rollback()
			}
		}
	case 5:
		rows = 3
		err = pgprod.InTx(ofOwn, db, inTransaction)
	}
	if err == nil {
		acknowledged.Add(rows)
	}
}

// sessionRest is what a statement sees of earlier borrowers.
const sessionRest = `select concat(
	current_setting('app.rest', true), ' ', current_setting('role'), ' ', to_regclass('pg_temp.scratch'), ' ',
	(select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'), ' ',
	(select count(*) from pg_cursors where name = 'held'), ' ',
	(select count(*) from pg_prepared_statements where name = 'planned'), ' ',
	(select count(*) from pg_listening_channels())) where $1`

const noRest = " none  0 0 0 0"

// leaving are statements that leave something in their session.
var leaving = []string{
	"set app.rest = 'x'", "select set_config('app.rest', 'x', false)",
	"do $$ begin perform set_config('app.rest', 'x', false); end $$",
	"select pg_try_advisory_lock(1)", "select pg_try_advisory_lock_shared(2), 1 / (random() * 2)::int",
	"create temp table scratch (a int)", "declare held cursor with hold for select 1", "prepare planned as select 1",
	"listen rest", "set role pg_monitor", "select leaves()", "begin",
	"select pg_try_advisory_lock(3); set app.rest = 'y'; select pg_sleep(0.002)",
}

func TestNothingIsLeftForTheNextBorrowerHoweverTheLastOneEnded(t *testing.T) {
	t.Parallel()
	const rounds = 125
	for _, reset := range []string{"auto", "always"} {
		t.Run(reset, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.NewDatabase(t)
			judge := openPgx(t, dsn)
			exec(t, judge, "create function leaves() returns text language sql as $$ select set_config('app.rest', 'x', false) $$")
			proxy := faultproxy.StartTB(t, dsn)
			db := openPool(t, with(proxy.DSN(), "pool_size", "3", "max_overflow", "0", "pool_reset", reset))
			var left, looked atomic.Int64
			underFire(proxy, func(worker int, rnd *rand.Rand) {
				for range rounds {
					ctx, cancel := sometimes(context.Background(), rnd)
					if worker%2 == 0 {
						if leaveSomething(ctx, db, rnd, reset == "always") {
							left.Add(1)
						}
					} else if saw, err := lookForRests(ctx, db, rnd); err == nil {
						looked.Add(1)
						assert.Equal(t, noRest, saw)
					}
					cancel()
				}
			})
			assert.NotZero(t, left.Load())
			assert.NotZero(t, looked.Load())
			t.Logf("%d have left something, %d have looked", left.Load(), looked.Load())
			for range 3 {
				conn, err := db.Conn(t.Context())
				require.NoError(t, err)
				defer conn.Close()
				assert.Equal(t, noRest, get[string](t, conn, sessionRest, true))
			}
		})
	}
}

// leaveSomething runs some statements that leave something, on one connection, and reports whether one has succeeded.
// inFunctions: also one whose text doesn't show it.
func leaveSomething(ctx context.Context, db *sql.DB, rnd *rand.Rand, inFunctions bool) (left bool) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return false
	}
	defer conn.Close()
	for range 1 + rnd.IntN(3) {
		statement := leaving[rnd.IntN(len(leaving))]
		if statement == "select leaves()" && !inFunctions {
			continue
		}
		if _, err := conn.ExecContext(ctx, statement); err == nil {
			left = true
		}
	}
	return left
}

// lookForRests asks for the rests by one of several ways.
func lookForRests(ctx context.Context, db *sql.DB, rnd *rand.Rand) (saw string, err error) {
	switch rnd.IntN(3) {
	case 0:
		err = pgprod.InTx(ctx, db, func(tx *sql.Tx) error { return tx.QueryRowContext(ctx, sessionRest, true).Scan(&saw) })
	case 1:
		var stmt *sql.Stmt
		if stmt, err = db.PrepareContext(ctx, sessionRest); err == nil {
			err = errors.Join(stmt.QueryRowContext(ctx, true).Scan(&saw), stmt.Close())
		}
	default:
		err = db.QueryRowContext(ctx, sessionRest, true).Scan(&saw)
	}
	return saw, err
}
