package sqlsummary

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestWhatAStatementMayLeaveThatWasCut(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]Remains{
		"CREATE INDEX CONCURRENTLY i ON t (a)":                              {RemainsIndex, "i", "t"},
		"create unique index concurrently if not exists \"a b\" on s.t (a)": {RemainsIndex, `s."a b"`, "s.t"},
		"create index concurrently on only db.s.\"on\" using gin (a)":       {RemainsIndex, "", `db.s."on"`},
		"create index concurrently /* x */ i -- on\n on t (a)":              {RemainsIndex, "i", "t"},
		"create index i on t (concurrently)":                                {},
		"create index concurrently_ on t (a)":                               {},
		"create table concurrently (a int)":                                 {},
		"create database d":                                                 {},
		"reindex index concurrently s.i":                                    {RemainsCopy, "s.i", ""},
		"reindex (verbose, concurrently) table t;":                          {RemainsCopies, "t", ""},
		"reindex (tablespace concurrently_) table t":                        {},
		"reindex schema concurrently s":                                     {RemainsCopies, "s", ""},
		"reindex database concurrently":                                     {RemainsCopies, "", ""},
		"reindex table t":                                                   {},
		"reindex (verbose":                                                  {},
		"drop index concurrently if exists i cascade":                       {RemainsDropping, "i", ""},
		"drop index i":                           {},
		"drop database if exists d with (force)": {RemainsDatabase, "d", ""},
		"drop table t":                           {},
		"alter table if exists only s.t detach partition p concurrently": {RemainsDetaching, "p", "s.t"},
		"alter table t detach partition p":                               {},
		"alter table t detach partition p finalize":                      {},
		"alter index i rename to concurrently":                           {},
		"refresh materialized view concurrently v":                       {},
		"select 'create index concurrently i on t'":                      {},
		"":                          {},
		"create index concurrently": {Kind: RemainsIndex},
	} {
		assert.Equal(t, want, RemainsOf(sql), sql)
	}
}
