package pgtest_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

func TestAStandbyFollowsItsPrimaryAndCanBePromoted(t *testing.T) {
	primary := pgtest.StartTB(t, pgtest.Config{Password: "secret", TLS: &pgtest.TLS{}})
	begin := time.Now()
	standby := pgtest.StartTB(t, pgtest.Config{StandbyOf: primary})
	t.Logf("standby started in %v", time.Since(begin))
	assert.NotContains(t, standby.DSN(""), "verify-full")
	assert.Contains(t, standby.DSN(""), "secret")

	inRecovery, err := standby.InRecovery(t.Context())
	require.NoError(t, err)
	assert.True(t, inRecovery)
	require.NoError(t, primary.Exec(t.Context(), "create table t as select 42 as x"))
	require.NoError(t, standby.CatchUp(t.Context()))
	assert.Equal(t, "42", query(t, standby.DSN(""), "select x::text from t"))
	_, err = connect(t, standby.DSN("")).Exec(t.Context(), "insert into t values (43)")
	require.ErrorContains(t, err, "25006")

	require.NoError(t, primary.Crash())
	begin = time.Now()
	require.NoError(t, standby.Promote(t.Context()))
	t.Logf("promoted in %v", time.Since(begin))
	_, err = connect(t, standby.DSN("")).Exec(t.Context(), "insert into t values (43)")
	require.NoError(t, err)
	require.ErrorContains(t, primary.CatchUp(t.Context()), "standby")
}

func TestAStandbyCatchesUpAfterARestartOfItsPrimary(t *testing.T) {
	primary := pgtest.StartTB(t, pgtest.Config{})
	standby := pgtest.StartTB(t, pgtest.Config{
		StandbyOf: primary, Settings: map[string]string{"wal_retrieve_retry_interval": "50ms"},
	})
	require.NoError(t, primary.Restart(t.Context(), pgtest.Fast))
	require.NoError(t, primary.Exec(t.Context(), "create table t as select 42 as x"))
	require.NoError(t, standby.CatchUp(t.Context()))
	assert.Equal(t, "42", query(t, standby.DSN(""), "select x::text from t"))
}

func TestAStandbyCanBeMadeWhileItsPrimaryIsWrittenTo(t *testing.T) {
	primary := pgtest.StartTB(t, pgtest.Config{})
	require.NoError(t, primary.Exec(t.Context(), "create table kept (n int)"))
	ctx, cancel := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	writer.Go(func() { // ended by cancel: files come, grow and vanish, and whole directories of them
		for n := 0; ctx.Err() == nil; n++ {
			for _, sql := range []string{
				"create table passing as select * from generate_series(1, 1000)", "drop table passing",
				"insert into kept values (1)", "create database passing", "drop database passing",
			} {
				if !assert.NoError(t, primary.Exec(t.Context(), sql)) {
					return
				}
			}
		}
	})
	standby := pgtest.StartTB(t, pgtest.Config{StandbyOf: primary})
	cancel()
	writer.Wait()
	require.NoError(t, standby.CatchUp(t.Context()))
	const sum = "select count(*)::text from kept"
	assert.Equal(t, query(t, primary.DSN(""), sum), query(t, standby.DSN(""), sum))
	require.NoError(t, standby.Promote(t.Context()))
	assert.Equal(t, "0", query(t, standby.DSN(""), "select count(*)::text from pg_database where datname = 'passing'"))
}
