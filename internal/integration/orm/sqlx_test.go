package orm

import (
	"context"
	"database/sql"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/integration/orm/dropin"
	"github.com/pgprod/pgprod/internal/pgtest"
)

const placesTable = `
	create table places (id int generated always as identity primary key, name text unique, size int)`

type place struct {
	ID   int
	Name string
	Size sql.NullInt64
}

// For a driver that sqlx doesn't know it writes ?, not $1. These are the ways to tell it.

// sqlxRegistered gives the driver a name that sqlx knows. It must be free: lib/pq, if it is linked, has it.
func sqlxRegistered(t testing.TB, dsn string) *sqlx.DB {
	t.Helper()
	pgprod.Register("postgres")
	db, err := sqlx.Connect("postgres", dsn)
	require.NoError(t, err)
	return db
}

// sqlxBound tells sqlx about the name.
func sqlxBound(t testing.TB, dsn string) *sqlx.DB {
	t.Helper()
	sqlx.BindDriver(pgprod.DriverName, sqlx.DOLLAR)
	db, err := sqlx.Connect(pgprod.DriverName, dsn)
	require.NoError(t, err)
	return db
}

// sqlxWrapped takes a *sql.DB, and a name for it that need not be the driver's.
func sqlxWrapped(t testing.TB, dsn string) *sqlx.DB {
	t.Helper()
	db, err := pgprod.Open(dsn)
	require.NoError(t, err)
	return sqlx.NewDb(db, "postgres")
}

// eachSQLX runs a test for each way, on a pool of one connection, and with the table made.
func eachSQLX(t *testing.T, test func(t *testing.T, db *sqlx.DB)) {
	t.Helper()
	for _, way := range []struct {
		name string
		open func(testing.TB, string) *sqlx.DB
	}{{"Register", sqlxRegistered}, {"BindDriver", sqlxBound}, {"NewDb", sqlxWrapped}} {
		t.Run(way.name, func(t *testing.T) {
			db := way.open(t, dropin.OneConn(pgtest.NewDatabase(t)))
			dropin.Adopt(t, db.DB)
			db.MustExec(placesTable)
			test(t, db)
		})
	}
}

// sqlxClient is sqlx for the tests that all libraries have in common.
func sqlxClient(open func(testing.TB, string) *sqlx.DB) func(testing.TB, string) dropin.Client {
	const insert = "insert into places (name) values (:name)"
	return func(t testing.TB, dsn string) dropin.Client {
		t.Helper()
		db := open(t, dsn)
		dropin.Adopt(t, db.DB)
		db.MustExec(placesTable)
		return dropin.Client{
			DB: db.DB,
			Insert: func(ctx context.Context, name string) error {
				_, err := db.NamedExecContext(ctx, insert, place{Name: name})
				return err
			},
			Names: func(ctx context.Context) (names []string, err error) {
				return names, db.SelectContext(ctx, &names, "select name from places order by name")
			},
			InTx: func(ctx context.Context, f func(func(string) error) error) error {
				tx, err := db.BeginTxx(ctx, nil)
				if err != nil {
					return err
				}
				defer tx.Rollback() // does nothing after Commit
				err = f(func(name string) error {
					_, err := tx.NamedExecContext(ctx, insert, place{Name: name})
					return err
				})
				if err != nil {
					return err
				}
				return tx.Commit()
			},
		}
	}
}

func TestSQLXWritesQuestionMarksForANameThatItDoesNotKnow(t *testing.T) {
	pgprod.Register("pgprod-unknown-to-sqlx") // not "pgprod", which another test binds
	db, err := sqlx.Connect("pgprod-unknown-to-sqlx", pgtest.NewDatabase(t))
	require.NoError(t, err)
	dropin.Adopt(t, db.DB)
	db.MustExec(placesTable)
	_, err = db.NamedExec("insert into places (name) values (:name)", place{Name: "ann"})
	dropin.RequireState(t, err, "42601") // a syntax error
}

func TestSQLXBindsNamedParameters(t *testing.T) {
	eachSQLX(t, func(t *testing.T, db *sqlx.DB) {
		_, err := db.NamedExec("insert into places (name, size) values (:name, :size)",
			[]place{{Name: "a"}, {Name: "b", Size: sql.NullInt64{Int64: 2, Valid: true}}})
		require.NoError(t, err)
		_, err = db.NamedExec("update places set size = :size where name = :name", map[string]any{"name": "a", "size": 1})
		require.NoError(t, err)

		rows, err := db.NamedQuery("select * from places where size < :size order by id", map[string]any{"size": 2})
		require.NoError(t, err)
		require.True(t, rows.Next())
		var a place
		require.NoError(t, rows.StructScan(&a))
		require.Equal(t, place{ID: 1, Name: "a", Size: sql.NullInt64{Int64: 1, Valid: true}}, a)
		require.False(t, rows.Next())
		require.NoError(t, rows.Err())

		stmt, err := db.PrepareNamed("select name from places where size = :size")
		require.NoError(t, err)
		var name string
		require.NoError(t, stmt.Get(&name, map[string]any{"size": 2}))
		require.Equal(t, "b", name)
		require.NoError(t, stmt.Close())
	})
}

func TestSQLXExpandsInAndRebinds(t *testing.T) {
	eachSQLX(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec("insert into places (name) values ($1), ($2), ($3)", "a", "b", "c")
		query, args, err := sqlx.In("select * from places where name in (?) and id > ? order by id", []string{"a", "c"}, 0)
		require.NoError(t, err)
		query = db.Rebind(query)
		require.Contains(t, query, "$3")
		var places []place
		require.NoError(t, db.Select(&places, query, args...))
		require.Equal(t, []place{{ID: 1, Name: "a"}, {ID: 3, Name: "c"}}, places)

		// pgx takes the slice itself, which needs no In.
		require.NoError(t, db.Select(&places, "select * from places where name = any ($1)", []string{"b"}))
		require.Equal(t, []place{{ID: 2, Name: "b"}}, places)
	})
}

func TestSQLXGetsAndScansStructs(t *testing.T) {
	eachSQLX(t, func(t *testing.T, db *sqlx.DB) {
		var got place
		require.ErrorIs(t, db.Get(&got, "select * from places"), sql.ErrNoRows)
		require.NoError(t, db.QueryRowx("insert into places (name) values ($1) returning *", "a").StructScan(&got))
		require.Equal(t, place{ID: 1, Name: "a"}, got)
		fields := map[string]any{}
		require.NoError(t, db.QueryRowx("select * from places where id = $1", 1).MapScan(fields))
		require.Equal(t, map[string]any{"id": int64(1), "name": "a", "size": nil}, fields)
		require.ErrorContains(t, db.Get(&got, "select 1 as unexpected"), "missing destination")
		require.Zero(t, db.Stats().InUse)
	})
}
