package drivertest

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// cutThere are statements that are cut short while they wait for ever, with what the server has then, which the error must
// announce, and what the error advises.
var cutThere = []struct {
	name      string
	setup     string
	reader    string // what somebody else's transaction has read, for which the statement waits
	statement string
	left      string // a query for the name of what is left
	want      string
	says      string
	remedy    string // runs, when the reader has ended
	then      string // the statement that is possible then
}{
	{
		name: "CREATE INDEX", setup: "create table app.t (a int); insert into app.t values (1)",
		statement: `create unique index concurrently if not exists "I" on app.t (app.slowly(a))`,
		left:      invalidIndex, want: `I`,
		says:   `(the index app."I" may be left, invalid, which slows writes down, and IF NOT EXISTS takes for done: DROP INDEX CONCURRENTLY app."I", then try again)`,
		remedy: `DROP INDEX CONCURRENTLY app."I"`, then: `create index concurrently "I" on app.t (a)`,
	},
	{
		name: "CREATE INDEX without a name", setup: "create table app.t (a int); insert into app.t values (1)",
		statement: "/* a migration */ create index concurrently on only app . t (app.slowly(a))",
		left:      invalidIndex, want: "t_slowly_idx",
		says: "(an invalid index on app.t may be left, ", remedy: "drop index concurrently app.t_slowly_idx", then: "create index on app.t (a)",
	},
	{
		name: "REINDEX INDEX while it builds", setup: "create table app.t (a int); create index i on app.t (app.slowly(a)); insert into app.t values (1)",
		statement: "reindex (verbose) index concurrently app.i",
		left:      invalidIndex, want: "i_ccnew",
		says:   "(an invalid index may be left beside app.i: DROP INDEX it; if its name ends in _ccnew, try again then; if it ends in _ccold, ",
		remedy: "drop index app.i_ccnew", then: "select 1 from app.t",
	},
	{
		name: "REINDEX TABLE when it has built", setup: "create table app.t (a int primary key)", reader: "select from app.t",
		statement: "reindex (concurrently) table app.t",
		left:      invalidIndex, want: "t_pkey_ccold",
		says: "(invalid indexes may be left: ", remedy: "drop index app.t_pkey_ccold", then: "reindex table concurrently app.t",
	},
	{
		name: "DROP INDEX", setup: "create table app.t (a int); create index i on app.t (a)", reader: "select from app.t",
		statement: "drop index concurrently if exists app.i",
		left:      invalidIndex, want: "i",
		says: "(the index app.i may be left, invalid, which slows writes down: DROP INDEX CONCURRENTLY it again)", remedy: "drop index concurrently app.i",
		then: "create index i on app.t (a)",
	},
	{
		name:   "DETACH PARTITION",
		setup:  "create table app.t (a int) partition by list (a); create table app.one partition of app.t for values in (1)",
		reader: "select from app.t", statement: "alter table only app.t detach partition app.one concurrently",
		left: "select inhrelid::regclass::text from pg_inherits where inhdetachpending", want: "app.one",
		says:   "(the partition may be left half detached: ALTER TABLE app.t DETACH PARTITION app.one FINALIZE)",
		remedy: "ALTER TABLE app.t DETACH PARTITION app.one FINALIZE", then: "alter table app.t attach partition app.one for values in (1)",
	},
}

const invalidIndex = "select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid where not i.indisvalid"

// slowlyFor makes a function that takes for ever, in sessions of this application_name.
const slowlyFor = `create schema app; create function app.slowly(a int) returns int immutable language plpgsql as
	$$ begin if current_setting('application_name') = 'cut' then perform pg_sleep(600); end if; return a; end $$;`

func TestWhatACutStatementLeavesIsInItsError(t *testing.T) {
	t.Parallel()
	for _, c := range cutThere {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.NewDatabase(t)
			other := openPgx(t, dsn)
			mustExec(t, other, slowlyFor+c.setup)
			reader, err := other.Begin()
			require.NoError(t, err)
			if c.reader != "" {
				mustExec(t, reader, c.reader)
			}
			db := openPool(t, with(dsn, "application_name", "cut"))
			_, err = db.ExecContext(pgprod.ContextWithCommandTimeout(t.Context(), time.Second), c.statement)
			requireCut(t, err, context.DeadlineExceeded)
			assert.Equal(t, c.want, get[string](t, other, c.left))
			assert.ErrorContains(t, err, c.says)
			require.NoError(t, reader.Rollback())
			mustExec(t, db, c.remedy)
			assert.ErrorIs(t, other.QueryRow(c.left).Scan(new(string)), sql.ErrNoRows)
			mustExec(t, db, c.then)
		})
	}
}

func TestWhatADropDatabaseLeavesThatWasCutIsInItsError(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	db := openPool(t, oneConn(server.DSN("")))
	mustExec(t, db, "create database doomed")
	stopped := hold(t, openPool(t, oneConn(server.DSN("")))) // it doesn't answer the signal that all have to answer
	pid := backendPID(t, stopped)
	require.NoError(t, server.FreezeBackend(pid))
	_, err := db.ExecContext(pgprod.ContextWithCommandTimeout(t.Context(), time.Second), "drop database if exists doomed")
	require.NoError(t, server.ThawBackend(pid))
	if server.Version() < 15 {
		require.NoError(t, err, "before 15 it doesn't wait for other sessions, so that nothing can cut it in its midst")
		return
	}
	requireCut(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, "(the database doomed may be left, invalid, where nobody can connect to it: DROP DATABASE it again)")
	assert.Equal(t, -2, get[int](t, db, "select datconnlimit from pg_database where datname = 'doomed'"))
	mustExec(t, db, "drop database doomed")
}

func TestWhatLeavesNothingSaysNothingOfIt(t *testing.T) {
	t.Parallel()
	for _, statement := range []string{
		"refresh materialized view concurrently v", "vacuum full t", "create index on t (slowly(a))", "reindex index i",
		"create table other as select slowly(1)", "delete from t where slowly(a) = 1",
	} {
		dsn := pgtest.NewDatabase(t)
		other := openPgx(t, dsn)
		mustExec(t, other, `create table t (a int); insert into t values (1); create materialized view v as select a from t; create unique index on v (a);
			create function slowly(a int) returns int immutable language plpgsql as $$ begin perform pg_sleep(600); return a; end $$;
			create index i on t (a)`)
		reader, err := other.Begin()
		require.NoError(t, err)
		if !strings.Contains(statement, "slowly") {
			mustExec(t, reader, "lock table t in access exclusive mode")
		}
		before := get[string](t, other, state)
		db := openPool(t, dsn, pgprod.WithCommandTimeout(300*time.Millisecond))
		_, err = db.Exec(statement)
		requireCut(t, err, context.DeadlineExceeded)
		assert.NotContains(t, err.Error(), "left", statement)
		assert.ErrorContains(t, err, "(look at its plan with EXPLAIN", statement)
		require.NoError(t, reader.Rollback())
		assert.Equal(t, before, get[string](t, other, state), statement)
	}
}

// state is what tables and indexes there are, and which of them are valid.
const state = `select string_agg(concat(c.oid, c.relname, c.relfilenode, i.indisvalid), ' ' order by c.oid) from pg_class c
	left join pg_index i on i.indexrelid = c.oid where c.oid >= 16384`

func TestWhatIsCutInRawOrByItsCallerSaysTheSame(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	mustExec(t, openPgx(t, dsn), slowlyFor+"create table app.t (a int); insert into app.t values (1)")
	db := openPool(t, with(dsn, "application_name", "cut"))
	const says = "(the index app.i may be left, invalid, "
	create := func(ctx context.Context) error {
		return second(db.ExecContext(ctx, "create index concurrently i on app.t (app.slowly(a))"))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	assert.ErrorContains(t, create(ctx), says)
	mustExec(t, db, "drop index app.i")
	err := pgprod.Raw(pgprod.ContextWithCommandTimeout(t.Context(), time.Second), db, func(conn *pgx.Conn) error {
		_, err := conn.Exec(pgprod.ContextWithCommandTimeout(t.Context(), time.Second), "create index concurrently i on app.t (app.slowly(a))")
		return err
	})
	assert.ErrorContains(t, err, says)
	mustExec(t, db, "drop index app.i")
	ended, end := context.WithCancel(t.Context())
	end()
	err = create(ended)
	require.ErrorIs(t, err, context.Canceled)
	assert.NotContains(t, err.Error(), "left", "nothing was sent")
}
