package faulttest

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

func TestAStoppedIdleSessionThatDoesNotAnswerAPingCostsNoOtherConnectionWhileOthersAreAnswered(t *testing.T) {
	s := pgtest.StartTB(t, pgtest.Config{})
	db := openPool(t, with(s.DSN(""), "connect_timeout", "2"), pgprod.WithPoolPrePing(pgprod.PrePingAlways)) // a ping gets as long
	working, err := db.Conn(t.Context())
	require.NoError(t, err)
	pid := get[uint32](t, db, "select pg_backend_pid()")
	require.NoError(t, s.FreezeBackend(pid))
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { // ends with ctx
		for ctx.Err() == nil {
			_, err := working.ExecContext(t.Context(), "select pg_sleep(0.01)")
			assert.NoError(t, err)
		}
	})
	assert.NotEqual(t, pid, get[uint32](t, db, "select pg_backend_pid()"), "another session has answered")
	cancel()
	work.Wait()
	require.NoError(t, working.Close())
	require.NoError(t, s.ThawBackend(pid))
	assert.Equal(t, int64(1), statusOf(t, db).Closed["invalid"], "the stopped one, and no other")
}
