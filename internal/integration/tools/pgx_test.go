package tools

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// The tests of this file are the proof of the tables in internal/docs/migrating.md for who comes from pgx/stdlib and pgxpool.

// openPgx opens a pool of pgx/stdlib on a configuration that f may change.
func openPgx(t *testing.T, dsn string, f func(*pgx.ConnConfig), opts ...stdlib.OptionOpenDB) *sql.DB {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	if f != nil {
		f(cfg)
	}
	db := stdlib.OpenDB(*cfg, opts...)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return db
}

// openOurs opens a pool of pgprod with options.
func openOurs(t *testing.T, dsn string, opts ...pgprod.Option) *sql.DB {
	t.Helper()
	db, err := pgprod.Open(dsn, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return db
}

func TestFromPgxOnlyTheImportAndTheNameChange(t *testing.T) {
	t.Parallel()
	dsn := with(pgtest.NewDatabase(t), "default_query_exec_mode", "exec", "statement_cache_capacity", "7", "work_mem", "3MB")
	for _, driver := range []string{"pgx", "pgprod"} {
		text, err := outcome(driver, dsn, setting("work_mem"))
		require.NoError(t, err, driver)
		assert.Equal(t, "3MB", text, driver)
		db := open(t, driver, dsn)
		db.SetMaxOpenConns(1) // holds with both
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		require.ErrorIs(t, db.PingContext(ctx), context.DeadlineExceeded, driver)
		cancel()
		require.NoError(t, conn.Close())
	}
}

func TestPgxsConnectionIsReachedByItsMethodAndNotByItsType(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	for _, driver := range []string{"pgx", "pgprod"} {
		conn, err := open(t, driver, dsn).Conn(t.Context())
		require.NoError(t, err)
		require.NoError(t, conn.Raw(func(dc any) error {
			_, isPgxs := dc.(*stdlib.Conn)
			assert.Equal(t, driver == "pgx", isPgxs)
			return dc.(interface{ Conn() *pgx.Conn }).Conn().Ping(t.Context())
		}), driver)
		require.NoError(t, conn.Close())
	}
}

func TestARegisteredConfigIsRefusedInOpenWithWhatServes(t *testing.T) {
	t.Parallel()
	cfg, err := pgx.ParseConfig(pgtest.NewDatabase(t))
	require.NoError(t, err)
	name := stdlib.RegisterConnConfig(cfg)
	defer stdlib.UnregisterConnConfig(name)
	require.NoError(t, open(t, "pgx", name).Ping())
	_, err = sql.Open("pgprod", name)
	require.ErrorContains(t, err, "give the DSN itself, and options to pgprod.Open")
}

func TestAPasswordBeforeConnectIsAFunction(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Password: "s3cret"})
	bare := strings.Replace(server.DSN(""), ":s3cret@", "@", 1)
	theirs := openPgx(t, bare, nil, stdlib.OptionBeforeConnect(func(_ context.Context, cfg *pgx.ConnConfig) error {
		cfg.Password = "s3cret"
		return nil
	}))
	ours := openOurs(t, bare, pgprod.WithPasswordFunc(func(context.Context) (string, error) { return "s3cret", nil }))
	require.NoError(t, theirs.Ping())
	require.NoError(t, ours.Ping())
}

func TestASettingAfterConnectIsAServerSetting(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	theirs := openPgx(t, dsn, nil, stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "set search_path = shop")
		return err
	}))
	ours := openOurs(t, dsn, pgprod.WithServerSettings(map[string]string{"search_path": "shop"}))
	for _, db := range []*sql.DB{theirs, ours} {
		assert.Equal(t, "shop", get[string](t, db, "show search_path"))
	}
}

// pgx keeps types by connection, so that there is no place for them where connections come and go.
func TestTypesOfOnesOwnAreRegisteredInRawOrGoAsTexts(t *testing.T) {
	t.Parallel()
	type pair struct {
		A int
		B string
	}
	ours := newPool(t)
	mustExec(t, ours, "create type pair as (a int, b text)")
	mustExec(t, ours, "create type mood as enum ('sad', 'glad')")

	var text string
	require.ErrorContains(t, ours.QueryRow("select $1::pair::text", pair{1, "x"}).Scan(&text), "cannot find encode plan")
	assert.Equal(t, "(1,x)", get[string](t, ours, "select $1::pair", "(1,x)"))
	assert.Equal(t, "glad", get[string](t, ours, "select $1::mood", "glad"))
	var moods []string
	row := ours.QueryRow("select $1::text[]::mood[]::text[]", []string{"glad", "sad"})
	require.NoError(t, row.Scan(pgtype.NewMap().SQLScanner(&moods)))
	assert.Equal(t, []string{"glad", "sad"}, moods)

	raw(t, ours, func(conn *pgx.Conn) error {
		kind, err := conn.LoadType(t.Context(), "pair")
		if err != nil {
			return err
		}
		conn.TypeMap().RegisterType(kind)
		var got pair
		err = conn.QueryRow(t.Context(), "select $1::pair", pair{1, "x"}).Scan(&got)
		assert.Equal(t, pair{1, "x"}, got)
		return err
	})
}

func TestANoticeIsHeardByAHandlerAsByPgxs(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	const notice = "do $$ begin raise notice 'hear hear'; end $$"
	var heard []string
	theirs := openPgx(t, dsn, func(cfg *pgx.ConnConfig) {
		cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { heard = append(heard, n.Message) }
	})
	mustExec(t, theirs, notice)
	assert.Equal(t, []string{"hear hear"}, heard)
	heard = nil
	ours, err := pgprod.Open(dsn, pgprod.WithNoticeHandler(func(n *pgconn.Notice) { heard = append(heard, n.Message) }))
	require.NoError(t, err)
	defer func() { assert.NoError(t, ours.Close()) }()
	mustExec(t, ours, notice)
	assert.Equal(t, []string{"hear hear"}, heard)
}

func TestAContextsEndCostsPgxTheConnection(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	for driver, lives := range map[string]bool{"pgx": false, "pgprod": true} {
		db := open(t, driver, dsn)
		before := get[int](t, db, "select pg_backend_pid()")
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := db.ExecContext(ctx, "select pg_sleep(60)")
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, lives, before == get[int](t, db, "select pg_backend_pid()"), driver)
	}
}

func TestEachKeyOfPgxpoolIsRefusedWithTheKeyThatServes(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	for _, c := range []struct{ key, value, serves, as string }{
		{"pool_max_conns", "7", "pool_size", "7"},
		{"pool_max_conns", "7", "max_overflow", "0"},
		{"pool_min_conns", "2", "pool_min", "2"},
		{"pool_min_idle_conns", "2", "pool_min", "2"},
		{"pool_max_conn_lifetime", "1h", "pool_recycle", "1h"},
		{"pool_max_conn_lifetime_jitter", "1m", "pool_recycle", "1h"},
		{"pool_max_conn_idle_time", "5m", "pool_idle_timeout", "5m"},
		{"pool_health_check_period", "1m", "pool_pre_ping", "auto"},
		{"pool_ping_timeout", "1s", "pool_pre_ping", "always"},
	} {
		_, err := pgxpool.ParseConfig(with(dsn, c.key, c.value))
		require.NoError(t, err)
		_, err = sql.Open("pgprod", with(dsn, c.key, c.value))
		require.ErrorContains(t, err, "DSN key "+c.key+": is pgxpool's; ")
		require.ErrorContains(t, err, c.serves)
		require.NoError(t, open(t, "pgprod", with(dsn, c.serves, c.as)).Ping())
	}
}

func TestWhatPgxpoolHasTheDatabaseHandleAndRawHave(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	theirs, err := pgxpool.New(t.Context(), dsn)
	require.NoError(t, err)
	defer theirs.Close()
	ours := open(t, "pgprod", dsn)
	require.NoError(t, theirs.Ping(t.Context()))
	require.NoError(t, ours.Ping())
	assert.EqualValues(t, theirs.Stat().IdleConns(), statusOf(t, ours).CheckedIn)

	batch := func(send func(context.Context, *pgx.Batch) pgx.BatchResults) (sum int, err error) {
		b := &pgx.Batch{}
		for i := range 3 {
			b.Queue("select $1::int", i).QueryRow(func(row pgx.Row) error {
				var n int
				err := row.Scan(&n)
				sum += n
				return err
			})
		}
		return sum, send(t.Context(), b).Close()
	}
	sum, err := batch(theirs.SendBatch)
	require.NoError(t, err)
	assert.Equal(t, 3, sum)
	raw(t, ours, func(conn *pgx.Conn) error {
		sum, err := batch(conn.SendBatch)
		assert.Equal(t, 3, sum)
		return err
	})

	raw(t, ours, func(conn *pgx.Conn) error {
		rows, err := conn.Query(t.Context(), "select n, n::text as name from generate_series(1, 2) n")
		if err != nil {
			return err
		}
		type line struct {
			N    int
			Name string
		}
		lines, err := pgx.CollectRows(rows, pgx.RowToStructByName[line])
		assert.Equal(t, []line{{1, "1"}, {2, "2"}}, lines)
		return err
	})
	require.NoError(t, pgx.BeginFunc(t.Context(), theirs, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), "create table t (a int)")
		return err
	}))
	require.NoError(t, pgprod.InTx(t.Context(), ours, func(tx *sql.Tx) error {
		_, err := tx.Exec("insert into t values (1)")
		return err
	}))
	requireNothingLeft(t, ours)
}
