package faulttest

import (
	"database/sql"
	"fmt"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// takeOnce takes one from the first account by a transaction with a key, and returns how often it was run.
func takeOnce(t *testing.T, db *sql.DB, key string) (ran int, err error) {
	t.Helper()
	err = pgprod.InTx(t.Context(), db, func(tx *sql.Tx) error {
		ran++
		_, err := tx.Exec(takeOne, 1)
		return err
	}, pgprod.TxOnce(key))
	return ran, err
}

// TestALostCommitIsSettledByItsKeyBehindPgBouncer loses COMMIT, or its reply, between the application and PgBouncer, and then
// the reply to the first look for the key as well.
func TestALostCommitIsSettledByItsKeyBehindPgBouncer(t *testing.T) {
	behindEach(t, func(t *testing.T, b bounced) {
		direct := newClient(t, b.server.DSN(b.database))
		direct.do(tableOfKeys)
		proxy := faultproxy.StartTB(t, b.dsn(b.database, b.settings...))
		db := openPool(t, proxy.DSN())
		for i, c := range []struct {
			fault faultproxy.Rule
			runs  int // how often fn has to run
		}{
			{faultproxy.Rule{End: faultproxy.FIN}, 1}, {faultproxy.Rule{End: faultproxy.RST}, 1},
			{faultproxy.Rule{Unsent: true, End: faultproxy.FIN}, 2}, {faultproxy.Rule{Unsent: true, End: faultproxy.RST}, 2},
		} {
			before, key := direct.count(total), fmt.Sprint(i)
			c.fault.Match = faultproxy.Containing("commit")
			proxy.Inject(c.fault)
			proxy.SwallowReply(c.fault.End, 1, faultproxy.Containing("on conflict"))
			ran, err := takeOnce(t, db, key)
			require.NoError(t, err)
			assert.Equal(t, c.runs, ran)
			assert.Equal(t, 2*(i+1), proxy.Stats().Injected)
			_, err = takeOnce(t, db, key)
			require.ErrorIs(t, err, pgprod.ErrAlreadyDone)
			assert.Equal(t, before-1, direct.count(total), "it took place once")
		}
		assert.Zero(t, statusOf(t, db).CommitsUnknown)
	})
}

// TestACommitThatPgBouncerLosesIsSettledByItsKey loses COMMIT, or its reply, between PgBouncer and the server. What PgBouncer
// says of it proves nothing.
func TestACommitThatPgBouncerLosesIsSettledByItsKey(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	proxy := faultproxy.StartTB(t, server.DSN(""))
	_, port, err := net.SplitHostPort(proxy.Addr().String())
	require.NoError(t, err)
	b := startBouncer(t, server, "transaction", "[databases]", "* = host=127.0.0.1 port="+port)
	database := b.database(t)
	direct := newClient(t, server.DSN(database))
	direct.do(tableOfKeys)
	db := openPool(t, b.dsn(database, "server_settings_mode", "set", "default_query_exec_mode", "exec"))
	for runs, unsent := range map[int]bool{1: false, 2: true} {
		lose := func() {
			proxy.Inject(faultproxy.Rule{Match: faultproxy.Containing("commit"), Unsent: unsent, End: faultproxy.FIN})
		}
		before, key := direct.count(total), fmt.Sprint(unsent)
		lose()
		err := inTx(db, func(tx *sql.Tx) error { _, err := tx.Exec(takeOne, 2); return err })
		require.ErrorIs(t, err, pgprod.ErrCommitUnknown)
		require.ErrorContains(t, err, "the session was ended at COMMIT", "this is what is to be settled")
		unknown := statusOf(t, db).CommitsUnknown
		took := before - direct.count(total) // 1 if that one took place
		lose()
		ran, err := takeOnce(t, db, key)
		require.NoError(t, err)
		_, err = takeOnce(t, db, key)
		require.ErrorIs(t, err, pgprod.ErrAlreadyDone)
		assert.Equal(t, before-took-1, direct.count(total), "it took place once")
		assert.Equal(t, runs, ran)
		assert.Equal(t, unknown, statusOf(t, db).CommitsUnknown)
	}
}
