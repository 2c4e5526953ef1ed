package drivertest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// onceDatabase makes a database with a table for notes, and the table for keys that the error asks for.
func onceDatabase(t *testing.T) (dsn string) {
	t.Helper()
	dsn = pgtest.NewDatabase(t)
	db := openPool(t, dsn)
	mustExec(t, db, "create table notes (note text)")
	err := pgprod.InTx(t.Context(), db, note("none"), pgprod.TxOnce("a"))
	_, ddl, ok := strings.Cut(err.Error(), "CREATE TABLE")
	require.True(t, ok, "%v", err)
	mustExec(t, db, "CREATE TABLE"+ddl)
	return dsn
}

// note returns a function for InTx that writes a note.
func note(text string) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		_, err := tx.Exec("insert into notes values ($1)", text)
		return err
	}
}

// notes returns all notes, in order.
func notes(t *testing.T, db *sql.DB) string {
	t.Helper()
	var all sql.NullString
	require.NoError(t, db.QueryRow("select string_agg(note, ' ' order by note) from notes").Scan(&all))
	return all.String
}

func TestATransactionWithAKeyIsCommittedOnce(t *testing.T) {
	t.Parallel()
	for _, begin := range []string{"lazy", "eager"} {
		for _, mode := range []string{"cache_statement", "exec", "simple_protocol"} {
			t.Run(begin+" "+mode, func(t *testing.T) {
				t.Parallel()
				db := openPool(t, with(onceDatabase(t), "begin", begin, "default_query_exec_mode", mode))
				ctx := t.Context()
				failure := errors.New("no")
				require.ErrorIs(t, pgprod.InTx(ctx, db, func(tx *sql.Tx) error {
					_ = note("lost")(tx)
					return failure
				}, pgprod.TxOnce("k")), failure)
				for range 3 { // so that what is prepared is used
					key := rand.Text()
					require.NoError(t, pgprod.InTx(ctx, db, note("x"), pgprod.TxOnce(key)))
					var within error
					err := pgprod.InTx(ctx, db, func(tx *sql.Tx) error {
						within = note("twice")(tx)
						return errors.New("fn says something else")
					}, pgprod.TxOnce(key))
					require.ErrorIs(t, err, pgprod.ErrAlreadyDone)
					require.ErrorIs(t, within, pgprod.ErrAlreadyDone)
					assert.NotContains(t, err.Error(), key)
					err = pgprod.InTx(ctx, db, func(tx *sql.Tx) error { _ = note("twice")(tx); return nil }, pgprod.TxOnce(key))
					require.ErrorIs(t, err, pgprod.ErrAlreadyDone, "though fn has swallowed the error")
				}
				require.NoError(t, pgprod.InTx(ctx, db, note("y"), pgprod.TxOnce("k")), "a failed fn leaves no key")
				assert.Equal(t, "x x x y", notes(t, db))
				assert.Zero(t, statusOf(t, db).Closed["dirty"])
			})
		}
	}
}

func TestAKeyIsCommittedThoughFnHasNoStatement(t *testing.T) {
	t.Parallel()
	db := openPool(t, onceDatabase(t))
	nothing := func(*sql.Tx) error { return nil }
	require.NoError(t, pgprod.InTx(t.Context(), db, nothing, pgprod.TxOnce("k")))
	require.ErrorIs(t, pgprod.InTx(t.Context(), db, nothing, pgprod.TxOnce("k")), pgprod.ErrAlreadyDone)
	assert.Zero(t, statusOf(t, db).Closed["dirty"])
}

func TestOfTwoTransactionsWithAKeyOneWaitsAndIsTold(t *testing.T) {
	t.Parallel()
	db := openPool(t, onceDatabase(t))
	for _, isolation := range []sql.IsolationLevel{sql.LevelDefault, sql.LevelRepeatableRead, sql.LevelSerializable} {
		key := rand.Text()
		var wg sync.WaitGroup
		outcomes := make([]error, 8)
		for i := range outcomes {
			wg.Go(func() {
				outcomes[i] = pgprod.InTx(t.Context(), db, note(key), pgprod.TxOnce(key), pgprod.TxIsolation(isolation), pgprod.TxRetries(100))
			})
		}
		wg.Wait()
		done := 0
		for _, err := range outcomes {
			if err == nil {
				done++
				continue
			}
			assert.ErrorIs(t, err, pgprod.ErrAlreadyDone, isolation)
		}
		assert.Equal(t, 1, done, isolation)
	}
}

func TestALostCommitIsSettledByItsKey(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]faultproxy.Rule{
		"not sent":   {Match: faultproxy.Containing("commit"), Unsent: true, End: faultproxy.RST},
		"reply lost": {Match: faultproxy.Containing("commit"), End: faultproxy.RST},
		"half":       {Match: faultproxy.Containing("commit"), Pass: 1, End: faultproxy.FIN},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := faultproxy.StartTB(t, onceDatabase(t))
			db := openPool(t, proxy.DSN())
			rule.Times = 3
			proxy.Inject(rule)
			ran := 0
			require.NoError(t, pgprod.InTx(t.Context(), db, func(tx *sql.Tx) error {
				ran++
				return note("x")(tx)
			}, pgprod.TxOnce("k")))
			assert.Equal(t, "x", notes(t, db))
			if name != "not sent" {
				assert.Equal(t, 1, ran)
			}
			assert.Zero(t, statusOf(t, db).CommitsUnknown)
			require.ErrorIs(t, pgprod.InTx(t.Context(), db, note("y"), pgprod.TxOnce("k")), pgprod.ErrAlreadyDone)
		})
	}
}

func TestAKeyCostsNoRoundTrip(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, onceDatabase(t))
	db := openPool(t, with(proxy.DSN(), "pool_size", "1", "max_overflow", "0"))
	trips := func(opts ...pgprod.TxOption) int {
		before := proxy.Stats().RoundTrips
		require.NoError(t, pgprod.InTx(t.Context(), db, note("x"), opts...))
		return proxy.Stats().RoundTrips - before
	}
	trips()
	trips(pgprod.TxOnce("a"))
	assert.Equal(t, 2, trips())
	assert.Equal(t, 2, trips(pgprod.TxOnce("b")))
}

func TestOldKeysAreForgotten(t *testing.T) {
	t.Parallel()
	db := openPool(t, onceDatabase(t))
	mustExec(t, db, "insert into pgprod_once select n::text, gen_random_uuid(), now() - interval '1 day' from generate_series(1, 25000) n")
	require.NoError(t, pgprod.InTx(t.Context(), db, note("x"), pgprod.TxOnce("new")))
	n, err := pgprod.ForgetOnce(t.Context(), db, time.Hour)
	require.NoError(t, err)
	assert.EqualValues(t, 25000, n)
	require.ErrorIs(t, pgprod.InTx(t.Context(), db, note("x"), pgprod.TxOnce("new")), pgprod.ErrAlreadyDone)
	n, err = pgprod.ForgetOnce(t.Context(), db, 0)
	require.NoError(t, err)
	assert.EqualValues(t, 1, n)
	_, err = pgprod.ForgetOnce(t.Context(), db, -1)
	require.ErrorContains(t, err, "pgprod: ForgetOnce: olderThan must be 0 or more")
}

func TestAKeyThatCantBeKeptIsRefused(t *testing.T) {
	t.Parallel()
	db := openPool(t, onceDatabase(t))
	for _, key := range []string{"", strings.Repeat("k", 1001), "a\x00b", "\xff"} {
		err := pgprod.InTx(t.Context(), db, note("x"), pgprod.TxOnce(key))
		require.ErrorContains(t, err, "pgprod: TxOnce: the key must have 1 to 1000 bytes")
	}
	err := pgprod.InTx(t.Context(), db, note("x"), pgprod.TxOnce("k"), pgprod.TxReadOnly())
	require.ErrorContains(t, err, "pgprod: TxOnce: a read-only transaction")
	require.NoError(t, pgprod.InTx(t.Context(), db, note("x"), pgprod.TxOnce(strings.Repeat("k", 1000))))
	assert.Equal(t, "x", notes(t, db))
}

func TestARoleThatMayNotWriteKeysIsToldSo(t *testing.T) {
	t.Parallel()
	db := openPool(t, onceDatabase(t), pgprod.WithServerSettings(map[string]string{"role": "pg_monitor"}))
	err := pgprod.InTx(t.Context(), db, note("x"), pgprod.TxOnce("k"))
	require.ErrorContains(t, err, "GRANT SELECT, INSERT, DELETE ON pgprod_once")
}

func TestARepeatableStatementSurvivesALostReply(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, onceDatabase(t))
	db := openPool(t, proxy.DSN())
	const upsert = "insert into notes select $1 where not exists (select from notes where note = $1)"
	ctx := pgprod.ContextRepeatable(t.Context())
	for _, end := range []faultproxy.End{faultproxy.FIN, faultproxy.RST} {
		proxy.SwallowReply(end, 1, faultproxy.Containing("exists"))
		_, err := db.ExecContext(ctx, upsert, "x")
		require.NoError(t, err)
		proxy.SwallowReply(end, 1, faultproxy.Containing("string_agg"))
		var all string
		require.NoError(t, db.QueryRowContext(ctx, "select string_agg(note, '') from notes").Scan(&all))
		assert.Equal(t, "x", all)

		proxy.SwallowReply(end, 1, faultproxy.Containing("exists"))
		_, err = db.ExecContext(t.Context(), upsert, "x")
		require.ErrorContains(t, err, "whether it ran is unknown", "nobody has said that it may run twice")
		tx, err := db.BeginTx(ctx, nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(ctx, "select 1")
		require.NoError(t, err)
		proxy.SwallowReply(end, 1, faultproxy.Containing("exists"))
		_, err = tx.ExecContext(ctx, upsert, "x")
		require.ErrorContains(t, err, "the transaction is rolled back", "never in a transaction")
		require.Error(t, tx.Rollback())
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err := db.ExecContext(ended, upsert, "x")
	require.ErrorIs(t, err, context.Canceled)
}

func TestACommandTagBySimpleProtocolProvesTheStatement(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, onceDatabase(t))
	db := openPool(t, proxy.DSN())
	const insert = "insert into notes values ('x')" // without arguments, and so by the simple protocol
	for _, end := range []faultproxy.End{faultproxy.FIN, faultproxy.RST} {
		proxy.Inject(faultproxy.Rule{Match: faultproxy.Containing(insert), Pass: 1, End: end})
		result, err := db.Exec(insert)
		require.NoError(t, err)
		n, err := result.RowsAffected()
		require.NoError(t, err)
		assert.EqualValues(t, 1, n)

		proxy.Inject(faultproxy.Rule{Match: faultproxy.Containing("'y'"), Pass: 1, End: end})
		_, err = db.Exec(insert + "; insert into notes values ('y')")
		require.ErrorContains(t, err, "whether it ran is unknown", "the first of two, which are committed together")
		proxy.Inject(faultproxy.Rule{Match: faultproxy.Containing("$1"), Pass: 2, End: end})
		_, err = db.Exec("insert into notes values ($1)", "z")
		require.Error(t, err, "by the extended protocol the completion comes before the commit")
	}
	pgtest.Eventually(t, patience, func() bool { return strings.Count(notes(t, db), "x") == 4 })
}

// TestTheManualHasTheTableForKeys compares the manual with the error.
func TestTheManualHasTheTableForKeys(t *testing.T) {
	t.Parallel()
	db := openPool(t, pgtest.NewDatabase(t))
	err := pgprod.InTx(t.Context(), db, note("x"), pgprod.TxOnce("k"))
	_, ddl, ok := strings.Cut(err.Error(), "CREATE TABLE")
	require.True(t, ok)
	assert.Contains(t, rootFile(t, "internal/docs/outcomes.md"), "CREATE TABLE"+ddl+";")
}

func TestTheManualQuotesWhatErrorsSay(t *testing.T) {
	t.Parallel()
	page := rootFile(t, "internal/docs/outcomes.md")
	for _, why := range link.Unknowns() {
		assert.Contains(t, page, fmt.Sprintf("\n| `%s` | `%s` |", why, why.Text()))
	}
	dsn := onceDatabase(t)
	proxy := faultproxy.StartTB(t, dsn)
	direct, db := openPool(t, dsn), openPool(t, proxy.DSN())
	commit := func(db *sql.DB, before func(*sql.Tx)) error {
		tx, err := db.Begin()
		require.NoError(t, err)
		require.NoError(t, note("x")(tx))
		before(tx)
		return tx.Commit()
	}
	for quoted, err := range map[string]error{
		"COMMIT was not sent": commit(direct, func(tx *sql.Tx) { terminate(t, backendPID(t, tx)) }),
		"the server ended the session instead": commit(db, func(*sql.Tx) {
			proxy.Arm(faultproxy.Cut{Word: faultproxy.Terminated()})
		}),
		"whether it ran is unknown": func() error {
			proxy.SwallowReply(faultproxy.FIN, 1, faultproxy.Containing("insert"))
			_, err := db.Exec("insert into notes values ('x')")
			return err
		}(),
	} {
		require.ErrorContains(t, err, quoted)
		assert.Contains(t, page, "`"+quoted+"`")
	}
}
