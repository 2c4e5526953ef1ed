package drivertest

import (
	"context"
	"database/sql"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// holder is a *sql.Conn or a *sql.Tx: what runs one statement after another on the same connection.
type holder interface {
	querier
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// holders are the ways to hold a connection of db. Each returns the function that gives it back.
var holders = map[string]func(testing.TB, *sql.DB) (holder, func()){
	"Tx": func(t testing.TB, db *sql.DB) (holder, func()) {
		tx, err := db.Begin()
		require.NoError(t, err)
		return tx, func() { _ = tx.Rollback() }
	},
	"Conn": func(t testing.TB, db *sql.DB) (holder, func()) {
		conn, err := db.Conn(context.Background())
		require.NoError(t, err)
		return conn, func() { _ = conn.Close() }
	},
	"Tx of a Conn": func(t testing.TB, db *sql.DB) (holder, func()) {
		conn, err := db.Conn(context.Background())
		require.NoError(t, err)
		tx, err := conn.BeginTx(context.Background(), nil)
		require.NoError(t, err)
		return tx, func() { _ = tx.Rollback(); _ = conn.Close() }
	},
}

// onEachHolder runs a test with each way to hold a connection, of pgx's driver and of ours: the answers must be the same.
func onEachHolder(t *testing.T, test func(*testing.T, holder)) {
	dsn := pgtest.NewDatabase(t)
	for driver, open := range map[string]func(testing.TB) *sql.DB{
		"pgx":    func(t testing.TB) *sql.DB { return openPgx(t, dsn) },
		"pgprod": func(t testing.TB) *sql.DB { return openPool(t, dsn) },
	} {
		for name, hold := range holders {
			t.Run(driver+"/"+name, func(t *testing.T) {
				h, giveBack := hold(t, open(t))
				defer giveBack()
				test(t, h)
			})
		}
	}
}

const (
	noRow     = "select 1 where $1::int = 0"
	threeRows = "select generate_series($1::int, 12)"
)

func TestTwoSetsOfRowsEachHaveTheirOwn(t *testing.T) {
	t.Parallel()
	onEachHolder(t, func(t *testing.T, h holder) {
		none, err := h.QueryContext(t.Context(), noRow, 1)
		require.NoError(t, err)
		defer none.Close()
		some, err := h.QueryContext(t.Context(), threeRows, 10)
		require.NoError(t, err)
		defer some.Close()
		assert.Empty(t, ints(t, none))
		require.NoError(t, none.Close())
		assert.Equal(t, []int{10, 11, 12}, ints(t, some))
	})
}

func TestTwoQueryRowsBeforeEitherScanEachHaveTheirOwn(t *testing.T) {
	t.Parallel()
	onEachHolder(t, func(t *testing.T, h holder) {
		var value int
		none := h.QueryRowContext(t.Context(), noRow, 1)
		one := h.QueryRowContext(t.Context(), "select 7")
		require.ErrorIs(t, none.Scan(&value), sql.ErrNoRows)
		require.NoError(t, one.Scan(&value))
		assert.Equal(t, 7, value)
	})
}

func TestTwoSetsOfRowsOfStatementsEachHaveTheirOwn(t *testing.T) {
	t.Parallel()
	onEachHolder(t, func(t *testing.T, h holder) {
		empty, err := h.PrepareContext(t.Context(), noRow)
		require.NoError(t, err)
		defer empty.Close()
		full, err := h.PrepareContext(t.Context(), threeRows)
		require.NoError(t, err)
		defer full.Close()
		none, err := empty.QueryContext(t.Context(), 1)
		require.NoError(t, err)
		defer none.Close()
		some, err := full.QueryContext(t.Context(), 11)
		require.NoError(t, err)
		defer some.Close()
		assert.Empty(t, ints(t, none))
		assert.Equal(t, []int{11, 12}, ints(t, some))
	})
}

// TestRowsOfAQueryThatHasEndedKeepTheirColumns: pgx's have those of the query after it, or panic for want of as many.
func TestRowsOfAQueryThatHasEndedKeepTheirColumns(t *testing.T) {
	t.Parallel()
	db := openPool(t, pgtest.NewDatabase(t))
	tx, err := db.Begin()
	require.NoError(t, err)
	defer tx.Rollback()
	ended, err := tx.Query("select 1::int8 as a, 'x'::varchar(7) as b, 2::numeric(9, 3) as c where false")
	require.NoError(t, err)
	defer ended.Close()
	other, err := tx.Query("select now() as other")
	require.NoError(t, err)
	defer other.Close()

	types, err := ended.ColumnTypes()
	require.NoError(t, err)
	var said []string
	for _, ct := range types {
		length, limited := ct.Length()
		precision, scale, scaled := ct.DecimalSize()
		said = append(said, fmt.Sprint(ct.Name(), " ", ct.DatabaseTypeName(), " ", ct.ScanType(), " ", length, limited, precision, scale, scaled))
	}
	assert.Equal(t, []string{
		"a INT8 int64 0 false 0 0 false", "b VARCHAR string 7 true 0 0 false", "c NUMERIC float64 0 false 9 3 true",
	}, said)
}

func ints(t testing.TB, rows *sql.Rows) (all []int) {
	t.Helper()
	for rows.Next() {
		var n int
		require.NoError(t, rows.Scan(&n))
		all = append(all, n)
	}
	require.NoError(t, rows.Err())
	return all
}
