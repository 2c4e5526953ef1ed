package tools

import (
	"database/sql"
	"testing"
	"testing/fstest"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database"
	migratepgx "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	migratepostgres "github.com/golang-migrate/migrate/v4/database/postgres"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// migrateDrivers are golang-migrate's two for a *sql.DB.
var migrateDrivers = map[string]func(*sql.DB) (database.Driver, error){
	"postgres": func(db *sql.DB) (database.Driver, error) {
		return migratepostgres.WithInstance(db, &migratepostgres.Config{})
	},
	"pgx/v5": func(db *sql.DB) (database.Driver, error) {
		return migratepgx.WithInstance(db, &migratepgx.Config{})
	},
}

// newMigrate sets golang-migrate up with a pool of its own, since it closes the pool in the end.
func newMigrate(t *testing.T, dsn string, driver func(*sql.DB) (database.Driver, error), files fstest.MapFS) *migrate.Migrate {
	t.Helper()
	db, err := sql.Open(pgprod.DriverName, dsn)
	require.NoError(t, err)
	source, err := iofs.New(files, ".")
	require.NoError(t, err)
	target, err := driver(db)
	require.NoError(t, err)
	m, err := migrate.NewWithInstance("iofs", source, "pgprod", target)
	require.NoError(t, err)
	t.Cleanup(func() {
		sourceErr, err := m.Close()
		assert.NoError(t, sourceErr)
		assert.NoError(t, err)
	})
	return m
}

func migration(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

func TestGolangMigrateGoesUpAndDownAndLeavesNoLockBehind(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{ // several statements in one file; one that must be alone
		"1_items.up.sql":   migration("create table items (id int); insert into items values (1), (2);"),
		"1_items.down.sql": migration("drop table items;"),
		"2_index.up.sql":   migration("create index concurrently by_id on items (id)"),
		"2_index.down.sql": migration("drop index concurrently by_id"),
	}
	for name, driver := range migrateDrivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.NewDatabase(t)
			look := open(t, pgprod.DriverName, dsn)
			m := newMigrate(t, dsn, driver, files)
			require.NoError(t, m.Up())
			require.Zero(t, advisoryLocks(t, look))
			assert.Equal(t, 2, get[int](t, look, "select count(*) from items"))
			assert.True(t, get[bool](t, look, "select indisvalid from pg_index where indexrelid = 'by_id'::regclass"))
			require.ErrorIs(t, m.Up(), migrate.ErrNoChange)
			version, dirty, err := m.Version()
			require.NoError(t, err)
			assert.EqualValues(t, 2, version)
			assert.False(t, dirty)

			require.NoError(t, m.Down())
			assert.False(t, get[bool](t, look, "select to_regclass('items') is not null"))
			require.NoError(t, m.Drop())
			requireNothingLeft(t, look)
		})
	}
}

// The driver for pgx finds the server's error; the one for lib/pq looks for *pq.Error and says less.
func TestGolangMigrateTellsWhatIsWrongWithAMigration(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{"1_wrong.up.sql": migration("create table items (id int);\ncreate tabel more (id int);")}
	for name, want := range map[string]string{
		"pgx/v5":   `migration failed: syntax error at or near "tabel" (column 8) in line 2`,
		"postgres": `migration failed in line 0`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.NewDatabase(t)
			look := open(t, pgprod.DriverName, dsn)
			m := newMigrate(t, dsn, migrateDrivers[name], files)
			err := m.Up()
			require.ErrorContains(t, err, want)
			require.ErrorContains(t, err, `42601`)
			_, dirty, err := m.Version()
			require.NoError(t, err)
			assert.True(t, dirty)
			requireNothingLeft(t, look)
			require.NoError(t, m.Force(-1))
		})
	}
}

// The lock lives in a session: it is held on one connection through all that golang-migrate does, and a second migration
// waits for it.
func TestGolangMigratesLockKeepsASecondMigrationOut(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{"1_items.up.sql": migration("create table items (id int)")}
	for name, driver := range migrateDrivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.NewDatabase(t)
			look := open(t, pgprod.DriverName, dsn)
			second := newMigrate(t, dsn, driver, files)
			first, err := driver(open(t, pgprod.DriverName, dsn))
			require.NoError(t, err)
			defer first.Close()
			require.NoError(t, first.Lock())
			require.Equal(t, 1, advisoryLocks(t, look))

			ended := make(chan error, 1)
			go func() { ended <- second.Up() }() // ended by the lock's release
			pgtest.Eventually(t, patience, func() bool { return advisoryLocks(t, look) == 2 }, "the second doesn't wait")
			require.NoError(t, first.Unlock())
			require.NoError(t, <-ended) // migrate itself waits no longer than 15 s
			requireNothingLeft(t, look)
		})
	}
}

func TestGolangMigratesWaitForItsLockIsBoundedByCommandTimeout(t *testing.T) {
	t.Parallel()
	for name, driver := range migrateDrivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.NewDatabase(t)
			look := open(t, pgprod.DriverName, dsn)
			first, err := driver(open(t, pgprod.DriverName, dsn))
			require.NoError(t, err)
			defer first.Close()
			second, err := driver(open(t, pgprod.DriverName, with(dsn, "command_timeout", "1s")))
			require.NoError(t, err)
			defer second.Close()
			require.NoError(t, first.Lock())
			require.ErrorContains(t, second.Lock(), "exceeded command_timeout")
			require.NoError(t, first.Unlock())
			require.NoError(t, second.Lock(), "its connection lives on")
			require.NoError(t, second.Unlock())
			requireNothingLeft(t, look)
		})
	}
}
