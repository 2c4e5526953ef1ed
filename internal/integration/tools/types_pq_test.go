package tools

import (
	"database/sql"
	"testing"
	"time"

	"github.com/lib/pq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// lib/pq's types are Valuers and Scanners of text, which pgx takes and gives for every type that it doesn't know.
func TestTypesOfLibpqServeWithPgprod(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		db := open(t, "pgprod", with(dsn, "default_query_exec_mode", mode))
		requireReturns(t, db, "text[]", pq.StringArray{"a", `b"c,d`, "", "NULL"})
		requireReturns(t, db, "text[]", pq.StringArray(nil))
		requireReturns(t, db, "bigint[]", pq.Int64Array{1, -2})
		requireReturns(t, db, "int[]", pq.Int32Array{})
		requireReturns(t, db, "float8[]", pq.Float64Array{1.5})
		requireReturns(t, db, "bool[]", pq.BoolArray{true, false})
		requireReturns(t, db, "bytea[]", pq.ByteaArray{{0, 1}, {255}})
		//lint:ignore SA1019 it is what programs have
		var never, at pq.NullTime = pq.NullTime{}, pq.NullTime{Time: time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC), Valid: true}
		requireReturns(t, db, "timestamptz", never)

		assert.True(t, at.Time.Equal(get[sql.NullTime](t, db, "select $1::timestamptz", at).Time))

		var names []string
		row := db.QueryRow("select $1::text[] || '{c}'", pq.Array([]string{"a", "b"}))
		require.NoError(t, row.Scan(pq.Array(&names)))
		assert.Equal(t, []string{"a", "b", "c"}, names)
		var holes []sql.NullInt64
		require.NoError(t, db.QueryRow("select '{1,null}'::int[]").Scan(pq.Array(&holes)))
		assert.Equal(t, []sql.NullInt64{{Int64: 1, Valid: true}, {}}, holes)
		assert.Equal(t, 2, get[int](t, db, "select count(*) from generate_series(1, 5) n where n = any($1)",
			pq.Array([]int{2, 4, 9})))
		assert.Equal(t, `a "b"`, get[string](t, db, "select 'a ' || "+pq.QuoteLiteral(`"b"`)+" as "+pq.QuoteIdentifier(`c"d`)))
	}
}

// TestATimeInATimestampColumnIsItsWallClockAsWithLibpqUnlessTheModeIsOneForPoolers: with those it is UTC.
func TestATimeInATimestampColumnIsItsWallClockAsWithLibpqUnlessTheModeIsOneForPoolers(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	at := time.Date(2024, 1, 2, 1, 31, 0, 0, time.FixedZone("", 2*3600))
	mustExec(t, open(t, "postgres", dsn), "create table events (at timestamp)")
	for driver, modes := range map[string][]string{
		"postgres": {""}, "pgx": {"cache_statement", "exec", "simple_protocol"}, "pgprod": {"cache_statement", "exec", "simple_protocol"},
	} {
		for _, mode := range modes {
			url, want := dsn, "2024-01-02 01:31:00"
			if mode != "" {
				url = with(dsn, "default_query_exec_mode", mode)
			}
			if mode == "exec" || mode == "simple_protocol" {
				want = "2024-01-01 23:31:00"
			}
			db := open(t, driver, url)
			mustExec(t, db, "insert into events values ($1)", at)
			assert.Equal(t, want, get[string](t, db, "delete from events returning at::text"), "%s %s", driver, mode)
		}
	}
}
