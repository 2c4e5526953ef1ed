package tools

import (
	"context"
	"database/sql"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// gooseFiles are a migration in a transaction, whose function has semicolons of its own, and one that may have none.
var gooseFiles = fstest.MapFS{
	"migrations/00001_items.sql": {Data: []byte(`-- +goose Up
create table items (id serial primary key, name text not null);
-- +goose StatementBegin
create function shout() returns trigger language plpgsql as $$
begin new.name := upper(new.name); return new; end $$;
-- +goose StatementEnd
create trigger shouting before insert on items for each row execute function shout();
-- +goose Down
drop table items;
drop function shout;
`)},
	"migrations/00003_index.sql": {Data: []byte(`-- +goose NO TRANSACTION
-- +goose Up
create index concurrently by_name on items (name);
-- +goose Down
drop index concurrently by_name;
`)},
}

// insertItems and deleteItems are a migration in Go, which stands between the two files.
func insertItems(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, "insert into items (name) values ($1), ($2)", "ann", "bob")
	return err
}

func deleteItems(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, "delete from items")
	return err
}

// hasIndex says whether the last migration was made.
func hasIndex(t *testing.T, db *sql.DB) bool {
	return get[bool](t, db, "select coalesce((select indisvalid from pg_index where indexrelid = to_regclass('by_name')), false)")
}

func TestGoosesProviderMigratesUpAndDownUnderItsAdvisoryLock(t *testing.T) {
	t.Parallel()
	db := newPool(t)
	files, err := fs.Sub(gooseFiles, "migrations")
	require.NoError(t, err)
	locker, err := lock.NewPostgresSessionLocker()
	require.NoError(t, err)
	p, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSessionLocker(locker),
		goose.WithGoMigrations(goose.NewGoMigration(2, &goose.GoFunc{RunTx: insertItems}, &goose.GoFunc{RunTx: deleteItems})),
		goose.WithDisableGlobalRegistry(true))
	require.NoError(t, err)

	done, err := p.Up(t.Context())
	require.NoError(t, err)
	assert.Len(t, done, 3)
	assert.Equal(t, "ANN,BOB", get[string](t, db, "select string_agg(name, ',' order by id) from items"))
	assert.True(t, hasIndex(t, db))
	requireNothingLeft(t, db)

	_, err = p.Down(t.Context())
	require.NoError(t, err)
	assert.False(t, hasIndex(t, db))
	_, err = p.DownTo(t.Context(), 0)
	require.NoError(t, err)
	assert.False(t, get[bool](t, db, "select to_regclass('items') is not null"))
	version, err := p.GetDBVersion(t.Context())
	require.NoError(t, err)
	assert.Zero(t, version)
	requireNothingLeft(t, db)
}

// It isn't parallel: goose keeps its dialect, files and migrations in variables.
func TestGoosesFunctionsMigrateWithTheDialectPostgres(t *testing.T) {
	db := newPool(t)
	goose.SetBaseFS(gooseFiles)
	goose.SetLogger(goose.NopLogger())
	goose.AddNamedMigrationContext("00002_items.go", insertItems, deleteItems)
	t.Cleanup(func() { goose.SetBaseFS(nil); goose.ResetGlobalMigrations() })
	require.NoError(t, goose.SetDialect("postgres"))

	require.NoError(t, goose.UpContext(t.Context(), db, "migrations"))
	assert.True(t, hasIndex(t, db))
	require.NoError(t, goose.DownToContext(t.Context(), db, "migrations", 1))
	assert.Zero(t, get[int](t, db, "select count(*) from items"))
	require.NoError(t, goose.DownContext(t.Context(), db, "migrations"))
	requireNothingLeft(t, db)

	_, err := goose.OpenDBWithDriver(pgprod.DriverName, pgtest.NewDatabase(t))
	require.ErrorContains(t, err, "pgprod", "goose opens databases only for names of its own list")
}
