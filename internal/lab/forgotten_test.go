//go:build linux

package lab

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// A host that has rebooted answers whoever asks it, but says nothing to who waits for a reply on a connection that it has forgotten.
// Only the kernel's keep-alive finds out.
func TestAStatementThatWaitsForAHostThatHasForgottenItEndsByKeepAliveWithoutALimit(t *testing.T) {
	together(t)
	c := newCluster(t, setup{})
	db := newPool(t, c.dsn()+"&application_name=forgotten", pgprod.WithCommandTimeout(0))
	defer func() { assert.NoError(t, db.Close()) }()
	waiting := make(chan error, 1)
	go func() { // ends when the connection is lost
		_, err := db.ExecContext(t.Context(), "select pg_sleep(3600)")
		waiting <- err
	}()
	pgtest.Eventually(t, patience, func() bool {
		backends, err := c.servers[0].Backends(t.Context(), "forgotten")
		return err == nil && len(backends) == 1 && backends[0].State == "active"
	})
	time.Sleep(100 * time.Millisecond) // until the kernel has acknowledged what was sent
	reboot(t, c)
	begin := time.Now()
	select {
	case err := <-waiting:
		require.Error(t, err)
		t.Logf("after %v: %v", time.Since(begin).Round(time.Millisecond), err)
	case <-time.After(2 * patience):
		t.Fatal("the statement waits for ever")
	}
	require.NoError(t, db.PingContext(t.Context()))
}
