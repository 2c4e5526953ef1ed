package sqlsummary

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestStandsAlone(t *testing.T) {
	for _, sql := range []string{
		"vacuum", "/* x */ VACUUM t", "call p()", "do $$ begin end $$", "cluster", "reindex table concurrently t",
		"create database x", "drop database x", "alter database x set tablespace y", "alter system set a = b",
		"create tablespace x location ''", "create subscription s connection '' publication p", "drop tablespace x",
		"create unique index concurrently on t (a)", "drop index concurrently i", "discard all", "commit prepared 'x'",
		"alter table p detach partition t concurrently", "rollback prepared 'x'",
	} {
		assert.True(t, StandsAlone(sql), sql)
	}
	for _, sql := range []string{
		"", "select 1", "create table t (a int)", "create index on t (a)", "insert into t values (1)", "discard plans", "commit",
		"rollback", "drop table t", "select 'vacuum'", "refresh materialized view concurrently v", `create table "concurrently" ()`,
	} {
		assert.False(t, StandsAlone(sql), sql)
	}
}

func TestComputesNothing(t *testing.T) {
	for _, sql := range []string{
		"begin", "START TRANSACTION", "commit", "end", "rollback to savepoint s", "abort", "savepoint s", "release s",
		"prepare transaction 'x'", "-- x\nbegin", "set transaction read only", "SET LOCAL transaction_isolation = serializable", "lock t", "listen x", "notify x, 'y'",
	} {
		assert.True(t, ComputesNothing(sql), sql)
	}
	for _, sql := range []string{"", "select 1", "prepare x as select 1", "show transaction_isolation"} {
		assert.False(t, ComputesNothing(sql), sql)
	}
}
