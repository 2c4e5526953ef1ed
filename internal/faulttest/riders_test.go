package faulttest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// insertTenant leaves a row that shows what the statement saw of its context's settings, and of an earlier borrower's.
const insertTenant = "insert into runs (note) " +
	"select concat(current_setting('app.tenant', true), current_setting('app.rest', true), $1::text)"

// A ridden statement has something travel in front of it.
type ridden struct {
	name   string
	riders []string // the texts of what travels, in part, as far as a cut in front of it is tried
	owes   bool     // an earlier borrower has left something, which is undone in front of all
	tenant string   // what the context sets; "": nothing
	way    way
	ending ending
}

// A way is how a statement is run.
type way func(ctx context.Context, db *sql.DB, statement func(querier) error) error

// The ways in which a statement is run.
var (
	alone = func(_ context.Context, db *sql.DB, statement func(querier) error) error { return statement(db) }
	inOwn = func(ctx context.Context, db *sql.DB, statement func(querier) error) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if err := statement(tx); err != nil {
			_ = tx.Rollback()
			return err
		}
		return tx.Commit()
	}
	again = func(ctx context.Context, db *sql.DB, statement func(querier) error) error {
		return pgprod.InTx(ctx, db, func(tx *sql.Tx) error { return statement(tx) })
	}
)

// An ending is what becomes of a statement whose connection is lost, by the way in which it is run.
type ending int

const (
	isAlone ending = iota // it has run or not
	isInOwn               // it is rolled back
	isAgain               // it is rolled back, and done again
)

var allRidden = []ridden{
	{"BEGIN", []string{"begin"}, false, "", inOwn, isInOwn},
	{"BEGIN in InTx", []string{"begin"}, false, "", again, isAgain},
	{"settings", []string{"set_config($1, $2, true)"}, false, "A", alone, isAlone},
	{"cleaning", nil, true, "", alone, isAlone},
	{"cleaning and settings", []string{"set_config($1, $2, true)"}, true, "A", alone, isAlone},
	{"cleaning, BEGIN and settings", []string{"set_config($1, $2, true)"}, true, "A", inOwn, isInOwn},
	{"cleaning, BEGIN and settings in InTx", []string{"set_config($1, $2, true)"}, true, "A", again, isAgain},
}

// A riderCut is where a connection is lost.
type riderCut struct {
	name string
	rule faultproxy.Rule
	// unrun: what the server gets of the statement is not committed.
	unrun bool
}

// cuts are all places in the flight, and in the answer for as long as the caller goes on asking.
func (r ridden) cuts(yield func(riderCut) bool) {
	statement := faultproxy.Containing(anInsert)
	for _, how := range []faultproxy.End{faultproxy.FIN, faultproxy.RST} {
		for _, text := range r.riders {
			rule := faultproxy.Rule{Match: faultproxy.Containing(text), Unsent: true, End: how}
			if !yield(riderCut{"in front of a rider", rule, true}) {
				return
			}
		}
		if !yield(riderCut{"in front of the statement", faultproxy.Rule{Match: statement, Unsent: true, End: how}, true}) ||
			!yield(riderCut{"in front of the Sync", faultproxy.Rule{Match: statement, Unsynced: true, End: how}, true}) {
			return
		}
	}
	const most = 64 // messages; cleaning has some twenty
	for pass := range most {
		how := []faultproxy.End{faultproxy.FIN, faultproxy.RST}[pass%2]
		rule := faultproxy.Rule{Match: statement, Pass: pass, End: how}
		if !yield(riderCut{fmt.Sprintf("behind %d messages of the answer", pass), rule, false}) {
			return
		}
	}
}

// TestNoStatementWithRidersRunsTwiceWhereverItsConnectionIsLost cuts the connection at each message of a statement and of
// what travels in front of it. It runs at most once, its error says what is known, and what was acknowledged is there.
func TestNoStatementWithRidersRunsTwiceWhereverItsConnectionIsLost(t *testing.T) {
	t.Parallel()
	for _, mode := range execModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			dsn, proxy := runsDatabase(t)
			judge := openPgx(t, dsn)
			db := openPool(t, with(proxy.DSN(), "default_query_exec_mode", mode, "pool_size", "1", "max_overflow", "0"))
			number := 0
			for _, r := range allRidden {
				if !r.triedIn(mode) {
					continue
				}
				for _, warm := range []bool{false, true} {
					for cut := range r.cuts {
						if mode == "simple_protocol" && cut.rule.Unsynced {
							continue // there is no Sync
						}
						number++
						name := fmt.Sprintf("#%d: %s, warm %v, %s, %v", number, r.name, warm, cut.name, cut.rule.End)
						require.NoError(t, db.Ping(), name) // on a connection that works
						if warm {
							attempts, _, err := r.run(db, "warm")
							require.NoError(t, err, name)
							require.Equal(t, 1, attempts, name)
						}
						if r.owes {
							exec(t, db, "set app.rest = 'x'")
						}
						proxy.Reset()
						proxy.Inject(cut.rule)
						attempts, done, err := r.run(db, name)
						proxy.ClearRules()
						rows := get[int](t, judge, "select count(*) from runs where note = $1", r.tenant+name)
						const wrong = "select count(*) from runs where note like '%' || $1 and note <> $2"
						assert.Zero(t, get[int](t, judge, wrong, name, r.tenant+name), name)
						if done == 1 && attempts == 1 && err == nil && proxy.Stats().Accepted > 0 {
							assert.Equal(t, 1, rows, name) // unnoticed, on another connection, since nothing had been executed
							continue
						}
						if done == attempts { // the whole answer has come
							assert.False(t, cut.unrun, name)
							r.requireAcknowledged(t, err, rows, name)
							break
						}
						r.requireKnown(t, cut, err, rows, name)
						if r.ending != isAgain {
							assert.LessOrEqual(t, executed(proxy, anInsert), 1, name)
						}
					}
				}
			}
			assert.Zero(t, statusOf(t, db).CheckedOut)
			const doubled = "select count(*) - count(distinct note) from runs where note like '%#%'"
			assert.Zero(t, get[int](t, judge, doubled))
		})
	}
}

// triedIn reports whether a statement is tried in a mode: all are in two modes, to save time, and in the others those that
// have everything travel. The simple protocol refuses settings outside of a transaction.
func (r ridden) triedIn(mode string) bool {
	switch mode {
	case "cache_statement":
		return true
	case "simple_protocol":
		return r.ending != isAlone || r.tenant == ""
	}
	return r.owes && r.tenant != ""
}

// run runs the statement, which leaves a row with this note behind what it sees. It returns how often it was given to the
// driver, and how often that said it was done.
func (r ridden) run(db *sql.DB, note string) (attempts, done int, err error) {
	ctx := context.Background()
	if r.tenant != "" {
		ctx = pgprod.ContextWithSettings(ctx, map[string]string{"app.tenant": r.tenant})
	}
	err = r.way(ctx, db, func(q querier) error {
		attempts++
		_, err := q.ExecContext(ctx, insertTenant, note)
		if err == nil {
			done++
		}
		return err
	})
	return attempts, done, err
}

// requireAcknowledged checks what became of a statement that was acknowledged before its connection was lost.
func (r ridden) requireAcknowledged(t *testing.T, err error, rows int, name string) {
	t.Helper()
	if r.ending != isAlone && errors.Is(err, pgprod.ErrCommitUnknown) {
		return // COMMIT may have got through before the end
	}
	if r.ending == isInOwn && err != nil {
		requireHonest(t, err)
		assert.Zero(t, rows, name)
		return
	}
	require.NoError(t, err, name)
	assert.Equal(t, 1, rows, name)
}

// requireKnown checks what is said of a statement whose connection was lost before its whole answer had come.
func (r ridden) requireKnown(t *testing.T, cut riderCut, err error, rows int, name string) {
	t.Helper()
	if r.ending == isAgain {
		require.NoError(t, err, name)
		assert.Equal(t, 1, rows, name)
		return
	}
	requireHonest(t, err)
	require.NotErrorIs(t, err, pgprod.ErrCommitUnknown, name)
	if r.ending == isInOwn || cut.unrun {
		assert.Zero(t, rows, name)
	} else {
		assert.Equal(t, 1, rows, name)
	}
	if r.ending == isAlone {
		assert.ErrorContains(t, err, "was sent", name)
	}
}

// TestATransactionWhoseBeginWasNotSentGoesOnOnAnotherConnection: nothing depends on the first one.
func TestATransactionWhoseBeginWasNotSentGoesOnOnAnotherConnection(t *testing.T) {
	t.Parallel()
	for _, mode := range execModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			dsn, proxy := runsDatabase(t)
			judge := openPgx(t, dsn)
			for _, owes := range []bool{false, true} {
				for prePing, how := range map[string]faultproxy.End{"auto": faultproxy.FIN, "off": faultproxy.RST} { // as above
					db := openPool(t, with(proxy.DSN(), "default_query_exec_mode", mode, "pool_pre_ping", prePing))
					ctx := pgprod.ContextWithSettings(t.Context(), map[string]string{"app.tenant": "A"})
					exec(t, judge, "delete from runs")
					if owes {
						exec(t, db, "set app.rest = 'x'")
					}
					tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
					require.NoError(t, err)
					cutAll(t, proxy, how)
					proxy.Reset()
					exec(t, tx, insertTenant, "x")
					assert.Equal(t, "serializable", get[string](t, tx, "select current_setting('transaction_isolation')"))
					require.NoError(t, tx.Commit())
					assert.Equal(t, 1, executed(proxy, anInsert))
					assert.Equal(t, "Ax", get[string](t, judge, "select string_agg(note, ' ') from runs"))
				}
			}
		})
	}
}

// TestAStatementWhoseRiderIsRefusedHasNotRun, also where a cleaning and a BEGIN in front of that rider have succeeded.
func TestAStatementWhoseRiderIsRefusedHasNotRun(t *testing.T) {
	t.Parallel()
	for _, mode := range execModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			dsn, proxy := runsDatabase(t)
			judge := openPgx(t, dsn)
			db := openPool(t, with(proxy.DSN(), "default_query_exec_mode", mode, "pool_size", "1", "max_overflow", "0"))
			ctx := pgprod.ContextWithSettings(t.Context(), map[string]string{"app.tenant": "A", "work_mem": "a lot"})
			for _, owes := range []bool{false, true} {
				for _, way := range []way{alone, inOwn, again} {
					for range 2 {
						if owes {
							exec(t, db, "set app.rest = 'x'")
						}
						for _, query := range []string{insertTenant, insertLiteral} {
							err := way(ctx, db, func(q querier) error {
								var args []any
								if query == insertTenant {
									args = append(args, "x")
								}
								_, err := q.ExecContext(ctx, query, args...)
								return err
							})
							require.Error(t, err)
							assert.NotContains(t, err.Error(), "a lot")
							assert.Regexp(t, "the statement has not run|can't travel", err.Error())
						}
						assert.Zero(t, get[int](t, judge, "select count(*) from runs"))
						const left = "select concat(current_setting('app.rest', true), current_setting('app.tenant', true))"
						assert.Equal(t, "", get[string](t, db, left))
					}
				}
			}
			assert.Equal(t, 1, proxy.Stats().Startups, "the connection is as good as before")
			pgtest.Eventually(t, patience, func() bool { return statusOf(t, db).CheckedOut == 0 })
		})
	}
}

// TestACleaningWhoseConnectionIsLost: where it goes ahead of the statement, as in the simple protocol, nothing of the
// statement was sent, and it runs on another connection; where it is in the same write the caller is told.
func TestACleaningWhoseConnectionIsLost(t *testing.T) {
	t.Parallel()
	for _, mode := range execModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			dsn, proxy := runsDatabase(t)
			judge := openPgx(t, dsn)
			db := openPool(t, with(proxy.DSN(), "default_query_exec_mode", mode, "pool_size", "1", "max_overflow", "0"))
			for _, way := range []way{alone, inOwn} {
				for _, how := range ends {
					exec(t, judge, "delete from runs")
					require.NoError(t, db.Ping())
					exec(t, db, "set app.rest = 'x'")
					proxy.Inject(faultproxy.Rule{Match: faultproxy.Containing("reset all"), Unsent: true, End: how})
					_, _, err := ridden{way: way}.run(db, "x")
					proxy.ClearRules()
					if mode == "simple_protocol" {
						require.NoError(t, err)
					}
					if err != nil {
						requireHonest(t, err)
						assert.ErrorContains(t, err, "was sent")
						assert.Zero(t, get[int](t, judge, "select count(*) from runs"))
						continue
					}
					assert.Equal(t, "x", get[string](t, judge, "select string_agg(note, ' ') from runs"))
				}
			}
		})
	}
}
