package faulttest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// isSilent checks the error of what a silent host has cost.
func isSilent(t *testing.T, err error) {
	t.Helper()
	requireHonest(t, err)
	assert.NotErrorIs(t, err, context.DeadlineExceeded)
	assert.NotErrorIs(t, err, context.Canceled)
	assert.ErrorContains(t, err, "is silent: nothing has come for")
}

// swallow has a proxy swallow all that comes, until the end of the test.
func swallow(t *testing.T, proxy *faultproxy.Proxy) {
	hole := func(on bool) {
		proxy.BlackHole(faultproxy.ToClient, on)
		proxy.BlackHole(faultproxy.ToServer, on)
	}
	hole(true)
	t.Cleanup(func() {
		hole(false)
		for _, c := range proxy.Conns() {
			c.Close(faultproxy.RST) // the black hole hid from the server that the clients left
		}
	})
}

func TestWhatWaitsForASilentHostIsCut(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]string{"with command_timeout": "60s", "without": "0"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, proxy := runsDatabase(t)
			db := openPool(t, with(proxy.DSN(), "command_timeout", limit, "pool_timeout", "60s", "connect_timeout", "60s"))
			fill(t, db, 10)
			all, leave := onePerConnection(t, db)
			swallow(t, proxy)
			for i := range all {
				all[i].limit, all[i].check = 2200*time.Millisecond, isSilent
				switch all[i].name {
				case "Commit":
					all[i].check = func(t *testing.T, err error) {
						isSilent(t, err)
						assert.ErrorIs(t, err, pgprod.ErrCommitUnknown)
					}
				case "Tx.Exec", "Tx.Query":
					all[i].check = func(t *testing.T, err error) {
						isSilent(t, err)
						assert.ErrorContains(t, err, "the transaction is rolled back")
					}
				}
			}
			runAll(t, all)
			leave()
		})
	}
}

var errEnough = errors.New("enough")

func TestAListenerIsNoReasonToAskItsHost(t *testing.T) {
	t.Parallel()
	_, proxy := runsDatabase(t)
	db := openPool(t, with(proxy.DSN(), "dead_after", "100ms"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	began := proxy.Stats().TLSRequests
	err := pgprod.Raw(t.Context(), db, func(c *pgx.Conn) error {
		began = proxy.Stats().TLSRequests
		_, err := c.WaitForNotification(ctx)
		return err
	})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Equal(t, began, proxy.Stats().TLSRequests)
}
