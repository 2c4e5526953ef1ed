package drivertest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// onDriverConn calls f with what (*sql.Conn).Raw gives.
func onDriverConn(t *testing.T, db *sql.DB, f func(conn driver.Conn) error) {
	t.Helper()
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.Raw(func(dc any) error { return f(dc.(driver.Conn)) }))
}

func TestRowsKeepEveryMethodOfPgxs(t *testing.T) {
	t.Parallel()
	db := openPool(t, pgtest.NewDatabase(t))
	theirs := reflect.TypeFor[*stdlib.Rows]()
	check := func(rows driver.Rows, err error) error {
		if err != nil {
			return err
		}
		ours := reflect.TypeOf(rows)
		for i := range theirs.NumMethod() {
			method := theirs.Method(i)
			found, ok := ours.MethodByName(method.Name)
			if assert.True(t, ok, method.Name) {
				assert.Equal(t, signature(method), signature(found), method.Name)
			}
		}
		return rows.Close()
	}
	onDriverConn(t, db, func(conn driver.Conn) error {
		if err := check(conn.(driver.QueryerContext).QueryContext(t.Context(), "select 1", nil)); err != nil {
			return err
		}
		st, err := conn.(driver.ConnPrepareContext).PrepareContext(t.Context(), "select 1")
		if err != nil {
			return err
		}
		return check(st.(driver.StmtQueryContext).QueryContext(t.Context(), nil))
	})
}

// signature is a method's type without its receiver.
func signature(m reflect.Method) string {
	var in, out []reflect.Type
	for i := 1; i < m.Type.NumIn(); i++ {
		in = append(in, m.Type.In(i))
	}
	for i := range m.Type.NumOut() {
		out = append(out, m.Type.Out(i))
	}
	return fmt.Sprint(in, out)
}

func TestColumnTypesAreThoseOfPgx(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	const query = `select 1::int2 a, 2::int4 b, 3::int8 c, 1.5::float4 d, 2.5::float8 e, 12.34::numeric(6,2) f, true g, 'x'::text h,
		'y'::varchar(7) i, 'z'::char(3) j, '\x01'::bytea k, now() l, now()::date m, '{}'::jsonb n, '{1}'::int[] o,
		gen_random_uuid() p, interval '1s' q, '1.2.3.4'::inet r, null s, '101'::varbit(9) u`
	describe := func(rows *sql.Rows, err error) (all []string) {
		require.NoError(t, err)
		defer rows.Close()
		types, err := rows.ColumnTypes()
		require.NoError(t, err)
		for _, c := range types {
			length, hasLength := c.Length()
			precision, scale, hasScale := c.DecimalSize()
			nullable, hasNullable := c.Nullable()
			all = append(all, strings.TrimSuffix(fmt.Sprintln(c.Name(), c.DatabaseTypeName(), length, hasLength,
				precision, scale, hasScale, nullable, hasNullable, c.ScanType()), "\n"))
		}
		return all
	}
	ours, theirs := openPool(t, dsn), openPgx(t, dsn)
	expected := describe(theirs.Query(query))
	assert.Equal(t, expected, describe(ours.Query(query)))
	assert.Equal(t, expected, describe(prepare(t, ours, query).Query()))
	assert.Contains(t, expected, "f NUMERIC 0 false 6 2 true false false float64")
	assert.Contains(t, expected, "h TEXT 9223372036854775807 true 0 0 false false false string")
}

func TestASecondQueryWhileRowsAreOpenIsRefusedAndHarmsNothing(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	pid := backendPID(t, db)
	tx, err := db.Begin()
	require.NoError(t, err)
	rows, err := tx.Query("select generate_series(1, 1000)")
	require.NoError(t, err)
	defer rows.Close()
	count := 0
	for rows.Next() {
		if count++; count%100 == 1 {
			_, err := tx.Query("select $1::int", 1)
			require.ErrorContains(t, err, "busy")
			_, err = tx.Exec("select 1")
			require.ErrorContains(t, err, "busy")
		}
	}
	require.NoError(t, rows.Err())
	assert.Equal(t, 1000, count)
	require.NoError(t, tx.Commit())
	assert.Equal(t, pid, backendPID(t, db))
}

func TestSeveralResultSetsAreAsWithPgx(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	sets := func(db *sql.DB) (values []string) {
		rows, err := db.Query("select 1; select 2, 3", pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			return []string{err.Error()}
		}
		defer rows.Close()
		for more := true; more; more = rows.NextResultSet() {
			columns, err := rows.Columns()
			values = append(values, fmt.Sprint(columns, err))
			for rows.Next() {
				values = append(values, "row")
			}
		}
		return append(values, fmt.Sprint(rows.Err()))
	}
	assert.Equal(t, sets(openPgx(t, dsn)), sets(openPool(t, dsn)))
}

func TestTheConnectionBelowIsThatOfTheStatementsBeforeAndAfter(t *testing.T) {
	t.Parallel()
	db := openPool(t, pgtest.NewDatabase(t))
	busy := hold(t, db) // so that there is another one to confuse it with
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	var pid uint32
	lend := func(check func(*pgx.Conn)) {
		require.NoError(t, conn.Raw(func(dc any) error {
			pc := dc.(interface{ Conn() *pgx.Conn }).Conn()
			require.NotNil(t, pc)
			check(pc)
			return nil
		}))
	}
	lend(func(pc *pgx.Conn) { pid = pc.PgConn().PID() }) // works at once, before any statement
	assert.NotEqual(t, backendPID(t, busy), pid)
	assert.Equal(t, pid, backendPID(t, conn))

	tx, err := conn.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	mustExec(t, tx, "create table t (a int, b text)")
	lend(func(pc *pgx.Conn) { // CopyFrom inside of a sql.Tx
		assert.Equal(t, pid, pc.PgConn().PID())
		n, err := pc.CopyFrom(t.Context(), pgx.Identifier{"t"}, []string{"a", "b"}, pgx.CopyFromRows([][]any{{1, "x"}, {2, "y"}}))
		require.NoError(t, err)
		assert.EqualValues(t, 2, n)
	})
	assert.Equal(t, 2, get[int](t, tx, "select count(*) from t"))
	require.NoError(t, tx.Rollback())
	assert.True(t, get[bool](t, conn, "select to_regclass('t') is null"))
	assert.Equal(t, pid, backendPID(t, conn))
}

func TestThereIsNoConnectionBelowWhenThereIsNoneToBeHad(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t), "pool_timeout", "200ms"))
	hold(t, db)
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	require.ErrorIs(t, conn.PingContext(t.Context()), pgprod.ErrPoolTimeout)
	require.NoError(t, conn.Raw(func(dc any) error {
		assert.Nil(t, dc.(interface{ Conn() *pgx.Conn }).Conn())
		return nil
	}))
	err = pgprod.Raw(t.Context(), db, func(*pgx.Conn) error { t.Error("called"); return nil })
	require.ErrorIs(t, err, pgprod.ErrPoolTimeout)
}

func TestRawRunsBatchesAndNotificationsOnOneConnection(t *testing.T) {
	t.Parallel()
	db := openPool(t, pgtest.NewDatabase(t))
	raw(t, db, func(conn *pgx.Conn) error {
		var batch pgx.Batch
		var a, b int
		batch.Queue("select $1::int", 1).QueryRow(func(row pgx.Row) error { return row.Scan(&a) })
		batch.Queue("select $1::int", 2).QueryRow(func(row pgx.Row) error { return row.Scan(&b) })
		require.NoError(t, conn.SendBatch(t.Context(), &batch).Close())
		assert.Equal(t, []int{1, 2}, []int{a, b})

		_, err := conn.Exec(t.Context(), "listen news")
		require.NoError(t, err)
		mustExec(t, db, "notify news, 'good'")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		n, err := conn.WaitForNotification(ctx)
		require.NoError(t, err)
		assert.Equal(t, "good", n.Payload)
		return nil
	})
}

type valuer struct{ text string }

func (v valuer) Value() (driver.Value, error) { return "valued " + v.text, nil }

// TestArgumentsAreTakenAsByPgx compares both drivers, in each mode, with and without a prepared statement.
func TestArgumentsAreTakenAsByPgx(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	at := time.Date(2024, 2, 29, 12, 34, 56, 789000000, time.FixedZone("", 3600))
	one, text := 1, "pointer"
	cases := []struct {
		query string
		args  []any
	}{
		{"select $1::int[]::text", []any{[]int32{1, 2, 3}}},
		{"select $1::text[]::text", []any{[]string{"a", `b"c,d`}}},
		{"select $1::int[][]::text", []any{[][]int32{{1, 2}, {3, 4}}}},
		{"select (1 = any ($1::bigint[]))::text", []any{[]int64{1}}},
		{"select $1::jsonb::text", []any{map[string]any{"a": 1, "b": []string{"c"}}}},
		{"select $1::jsonb::text", []any{json.RawMessage(`{"raw": true}`)}},
		{"select $1::jsonb::text", []any{struct {
			A int `json:"a"`
		}{1}}},
		{"select $1::bytea::text", []any{[]byte{0, 1, 255}}},
		{"select $1::timestamptz::text", []any{at}},
		{"select $1::date::text", []any{at}},
		{"select $1::interval::text", []any{90 * time.Minute}},
		{"select $1::inet::text", []any{net.IPv4(1, 2, 3, 4)}},
		{"select $1::inet::text", []any{netip.MustParseAddr("::1")}},
		{"select $1::cidr::text", []any{netip.MustParsePrefix("10.0.0.0/8")}},
		{"select $1::uuid::text", []any{[16]byte{1, 2, 3}}},
		{"select $1::uuid::text", []any{pgtype.UUID{Bytes: [16]byte{4, 5, 6}, Valid: true}}},
		{"select $1::numeric::text", []any{pgtype.Numeric{Int: big.NewInt(12345), Exp: -2, Valid: true}}},
		{"select $1::int4range::text", []any{pgtype.Range[pgtype.Int4]{Lower: pgtype.Int4{Int32: 1, Valid: true},
			Upper: pgtype.Int4{Int32: 9, Valid: true}, LowerType: pgtype.Inclusive, UpperType: pgtype.Exclusive, Valid: true}}},
		{"select $1::text", []any{valuer{"x"}}},
		{"select $1::text", []any{&valuer{"y"}}},
		{"select $1::text", []any{(*valuer)(nil)}},
		{"select $1::int::text", []any{&one}},
		{"select $1::text", []any{&text}},
		{"select $1::int::text", []any{(*int)(nil)}},
		{"select $1::int::text", []any{nil}},
		{"select $1::int::text", []any{sql.NullInt32{Int32: 7, Valid: true}}},
		{"select $1::int::text", []any{sql.Null[int]{}}},
		{"select $1::bigint::text", []any{uint64(math.MaxUint64)}}, // too large
		{"select $1::numeric::text", []any{uint64(math.MaxUint64)}},
		{"select $1::float8::text", []any{math.Inf(1)}},
		{"select $1::int::text", []any{"no number"}},
		{"select $1::int::text", []any{make(chan int)}},
		{"select @a::int::text", []any{pgx.NamedArgs{"a": 5}}},
		{"select $1::int::text", []any{pgx.QueryExecModeSimpleProtocol, 6}},
		{"select $1::int::text", []any{sql.Named("a", 8)}},
	}
	outcome := func(row *sql.Row) string {
		var value sql.NullString
		if err := row.Scan(&value); err != nil {
			return "error: " + err.Error()
		}
		return fmt.Sprint(value)
	}
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		ours, theirs := openPool(t, with(dsn, "default_query_exec_mode", mode)), openPgx(t, with(dsn, "default_query_exec_mode", mode))
		for _, c := range cases {
			expected := outcome(theirs.QueryRow(c.query, c.args...))
			assert.Equal(t, expected, outcome(ours.QueryRow(c.query, c.args...)), "%s: %s %T", mode, c.query, c.args)
			if mode != "cache_statement" || len(c.args) > 1 || c.query[7] == '@' {
				continue // a statement needs parameters that the server understands
			}
			st, err := theirs.Prepare(c.query)
			require.NoError(t, err)
			expected = outcome(st.QueryRow(c.args...))
			require.NoError(t, st.Close())
			assert.Equal(t, expected, outcome(prepare(t, ours, c.query).QueryRow(c.args...)), "prepared: %s %T", c.query, c.args)
		}
	}
}

func TestResultsCountRowsAndHaveNoLastInsertID(t *testing.T) {
	t.Parallel()
	db := openPool(t, pgtest.NewDatabase(t))
	mustExec(t, db, "create table t (a int)")
	res, err := db.Exec("insert into t select generate_series(1, $1)", 5)
	require.NoError(t, err)
	n, err := res.RowsAffected()
	require.NoError(t, err)
	assert.EqualValues(t, 5, n)
	_, err = res.LastInsertId()
	require.Error(t, err)
}
