package faulttest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/docs"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// A bouncer is a PgBouncer in front of a server.
type bouncer struct {
	*pgtest.Bouncer
	server *pgtest.Server
}

// startBouncer starts a PgBouncer that has three connections to each of the server's databases for all its clients;
// more are further lines of its configuration.
func startBouncer(t testing.TB, server *pgtest.Server, mode string, more ...string) *bouncer {
	t.Helper()
	return &bouncer{pgtest.StartBouncer(t, server, mode, more...), server}
}

// dsn is the URL of a database, through PgBouncer.
func (b *bouncer) dsn(database string, keysAndValues ...string) string {
	return with(b.DSN(database), keysAndValues...)
}

// database makes a database with a table, for one test.
func (b *bouncer) database(t testing.TB) string {
	t.Helper()
	// Not by NewDatabase, which waits until nobody is connected: PgBouncer keeps its connections.
	name := fmt.Sprintf("d%d", databaseNumber.add())
	require.NoError(t, b.server.Exec(t.Context(), "create database "+name))
	setup := newClient(t, b.server.DSN(name))
	accounts(setup, 4, 100)
	return name
}

type counter struct {
	mu sync.Mutex // guards n
	n  int
}

func (c *counter) add() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return c.n
}

var databaseNumber counter

// dropped are all parameters that the driver sends in its startup message and PgBouncer doesn't know.
const dropped = "jit=,random_page_cost=,effective_cache_size=,idle_in_transaction_session_timeout=,statement_timeout="

// poolerSettings is what works behind PgBouncer 1.18 with pool_mode=transaction; the table in internal/docs/poolers.md is a copy. For what
// doesn't, fails is in the error. With describe_exec there is worse: the unnamed statement that one round trip describes
// and the next executes may have become another client's in between, and its result the wrong one.
var poolerSettings = []struct {
	settings string // of the DSN
	works    bool
	fails    string
}{
	{"", false, "prepared statement"},
	{"default_query_exec_mode=exec", true, ""},
	{"server_settings=" + dropped, false, "prepared statement"},
	{"server_settings_mode=set", false, "prepared statement"},
	{"server_settings_mode=set&default_query_exec_mode=cache_statement", false, "prepared statement"},
	{"server_settings_mode=set&default_query_exec_mode=describe_exec", false, ""},
	{"server_settings_mode=set&default_query_exec_mode=cache_describe", true, ""},
	{"server_settings_mode=set&default_query_exec_mode=exec", true, ""},
	{"server_settings_mode=set&default_query_exec_mode=simple_protocol", true, ""},
	{"server_settings=" + dropped + "&default_query_exec_mode=cache_describe", true, ""},
	{"server_settings=" + dropped + "&default_query_exec_mode=exec", true, ""},
	{"server_settings=" + dropped + "&default_query_exec_mode=simple_protocol", true, ""},
}

func TestTheManualSaysWhatToDropBehindPgBouncer(t *testing.T) {
	t.Parallel()
	page, err := docs.Read("internal/docs/poolers.md")
	require.NoError(t, err)
	assert.Contains(t, page, `DB_SERVER_SETTINGS="`+dropped+`"`)
}

func keys(settings string) (keysAndValues []string) {
	for pair := range strings.SplitSeq(settings, "&") {
		if key, value, ok := strings.Cut(pair, "="); ok {
			keysAndValues = append(keysAndValues, key, value)
		}
	}
	return keysAndValues
}

// mixedLoad does everything that a program does, once, so that it uses whatever PgBouncer gives it.
func mixedLoad(db *sql.DB, stmt *sql.Stmt, worker int) error {
	ctx := context.Background()
	if _, err := db.Exec("update accounts set amount = amount where id = $1", 1+worker%4); err != nil {
		return fmt.Errorf("Exec: %w", err)
	}
	var n int
	if err := db.QueryRow("select amount from accounts where id = $1", 1+worker%4).Scan(&n); err != nil {
		return fmt.Errorf("Query: %w", err)
	}
	var text string
	var when time.Time
	if err := db.QueryRow("select $1::text, $2::timestamptz", "x", time.Unix(0, 0)).Scan(&text, &when); err != nil {
		return fmt.Errorf("types: %w", err)
	}
	if err := stmt.QueryRow(41).Scan(&n); err != nil {
		return fmt.Errorf("Stmt: %w", err)
	}
	if text != "x" || when.Unix() != 0 || n != 42 {
		return fmt.Errorf("got %q, %v, %d", text, when, n)
	}
	return pgprod.InTx(ctx, db, func(tx *sql.Tx) error {
		for _, change := range []int{-1, 1} {
			if _, err := tx.Exec("update accounts set amount = amount + $2 where id = $1", 1+worker%4, change); err != nil {
				return fmt.Errorf("in transaction: %w", err)
			}
		}
		return tx.Stmt(stmt).QueryRow(1).Scan(&n)
	})
}

// mixedRun has many workers do it many times and returns all errors.
func mixedRun(db *sql.DB) []error {
	stmt, err := db.Prepare("select $1::int + 1")
	if err != nil {
		return []error{err}
	}
	defer func() { _ = stmt.Close() }()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex // guards errs
		errs []error
	)
	for worker := range 8 {
		wg.Go(func() {
			for range 25 {
				if err := mixedLoad(db, stmt, worker); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return errs
}

func TestWhatWorksBehindPgBouncerWithTransactionPooling(t *testing.T) {
	t.Parallel()
	b := startBouncer(t, pgtest.StartTB(t, pgtest.Config{}), "transaction")
	major, minor := b.Version()
	t.Logf("PgBouncer %d.%d", major, minor)
	preparesItself := major > 1 || minor >= 21 // then more may work than the table says
	for _, row := range poolerSettings {
		t.Run(row.settings, func(t *testing.T) {
			database := b.database(t)
			db := openPool(t, b.dsn(database, keys(row.settings)...))
			errs := mixedRun(db)
			t.Logf("%q: %d errors", row.settings, len(errs))
			if row.works {
				assert.Empty(t, errs)
				assert.Equal(t, 400, get[int](t, db, total))
				return
			}
			if preparesItself && row.fails == "prepared statement" {
				return
			}
			require.NotEmpty(t, errs)
			require.ErrorContains(t, errs[0], row.fails)
		})
	}
}

func TestEverySettingOfModesWorksBehindPgBouncerWithSessionPooling(t *testing.T) {
	t.Parallel()
	b := startBouncer(t, pgtest.StartTB(t, pgtest.Config{}), "session")
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		for _, settings := range []string{"server_settings_mode=set", "server_settings=" + dropped} {
			// A client has a connection for as long as it is connected, so there must not be more.
			db := openPool(t, b.dsn(b.database(t), append(keys(settings),
				"default_query_exec_mode", mode, "pool_size", "3", "max_overflow", "0")...))
			assert.Empty(t, mixedRun(db), "%s %s", mode, settings)
			jit := get[string](t, db, "show jit")
			assert.Equal(t, strings.HasSuffix(settings, "=set"), jit == "off", "%s: jit is %s", settings, jit)
		}
	}
}

func TestAParameterThatPgBouncerDoesNotKnowIsAClearErrorAtOnce(t *testing.T) {
	t.Parallel()
	b := startBouncer(t, pgtest.StartTB(t, pgtest.Config{}), "transaction")
	for parameter, dsn := range map[string]string{
		"search_path": b.dsn("", "server_settings", dropped, "search_path", "public"),
		"jit":         b.dsn("", "server_settings", strings.Replace(dropped, "jit=", "jit=off", 1)),
	} {
		db := openPool(t, dsn)
		start := time.Now()
		err := db.Ping()
		require.ErrorContains(t, err, "unsupported startup parameter: "+parameter)
		assert.ErrorContains(t, err, "server_settings_mode=set sets it after connecting")
		assert.ErrorContains(t, err, "server_settings="+parameter+"= drops it")
		assert.Equal(t, "08P01", sqlState(err))
		assert.Less(t, time.Since(start), 20*time.Second, "not only after pool_timeout")
		assert.NotErrorIs(t, err, pgprod.ErrPoolTimeout)
	}
	db := openPool(t, b.dsn("", "search_path", "pg_catalog", "server_settings_mode", "set"))
	require.NoError(t, db.Ping())
}

// TestWhatPgBouncerDoesNotTakeInOptionsIsToBeTakenOutThere has two texts: before 1.20 PgBouncer knows no options at all.
func TestWhatPgBouncerDoesNotTakeInOptionsIsToBeTakenOutThere(t *testing.T) {
	b := startBouncer(t, pgtest.StartTB(t, pgtest.Config{}), "transaction")
	refused, advice := "unsupported startup parameter: options", "take options out of the DSN, and unset PGOPTIONS"
	if major, minor := b.Version(); major > 1 || minor >= 20 {
		refused, advice = "unsupported startup parameter in options: lock_timeout", "take lock_timeout out of options in the DSN and out of PGOPTIONS"
	}
	check := func(dsn string) {
		t.Helper()
		db := openPool(t, dsn)
		start := time.Now()
		err := db.Ping()
		require.ErrorContains(t, err, refused)
		assert.ErrorContains(t, err, advice)
		assert.NotContains(t, err.Error(), "server_settings=in")
		assert.Less(t, time.Since(start), 20*time.Second, "not only after pool_timeout")
	}
	check(b.dsn("", "options", "-c lock_timeout=1s", "server_settings_mode", "set"))
	t.Setenv("PGOPTIONS", "-c lock_timeout=1s")
	check(b.dsn("", "server_settings_mode", "set"))
	t.Setenv("PGOPTIONS", "")
	db := openPool(t, b.dsn("", "server_settings", "lock_timeout=1s", "server_settings_mode", "set"))
	require.NoError(t, db.Ping(), "as advised")
}

func TestAUserThatPgBouncerDoesNotKnowIsToldAfterAFewTries(t *testing.T) {
	t.Parallel()
	b := startBouncer(t, pgtest.StartTB(t, pgtest.Config{}), "transaction")
	db := openPool(t, b.dsn("", "user", "stranger", "server_settings", dropped, "pool_timeout", "1h"))
	err := db.Ping()
	require.Error(t, err)
	assert.Equal(t, "08P01", sqlState(err))
	assert.NotErrorIs(t, err, pgprod.ErrPoolTimeout)
	assert.GreaterOrEqual(t, statusOf(t, db).FailedConnects, int64(3))
}

// onlyOne are lines for a PgBouncer that has one connection to the server for all its clients.
const onlyOne = "default_pool_size = 1"

func TestAPoolerWithoutAFreeConnectionIsDegradedAndNotDead(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"session", "transaction"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			server := pgtest.StartTB(t, pgtest.Config{})
			b := startBouncer(t, server, mode, onlyOne)
			other, err := openPgx(t, b.dsn("")).Begin()
			require.NoError(t, err)
			db := openPool(t, b.dsn("", "server_settings", dropped, "default_query_exec_mode", "exec", "preflight", "off"))
			h := pgprod.Check(t.Context(), db)
			require.Equal(t, "degraded", h.Status, h.Reason)
			assert.Equal(t, "connected", h.Database)
			assert.Contains(t, h.Reason, "a pooler before it has no connection to it free")
			require.NoError(t, other.Rollback())
			if mode == "transaction" {
				awaitHealth(t, db, "healthy")
			}
		})
	}
}

// TestAServerThatIsFrozenBehindAPoolerIsUnhealthyAfterAWhile: the pooler goes on to let clients in.
func TestAServerThatIsFrozenBehindAPoolerIsUnhealthyAfterAWhile(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	b := startBouncer(t, server, "transaction")
	db := openPool(t, b.dsn("", "server_settings", dropped, "default_query_exec_mode", "exec", "preflight", "off", "command_timeout", "1s"))
	require.NoError(t, db.Ping())
	awaitHealth(t, db, "healthy")
	require.NoError(t, server.Freeze())
	awaitHealth(t, db, "degraded")
	awaitHealth(t, db, "unhealthy")
	require.NoError(t, server.Thaw())
	awaitHealth(t, db, "healthy")
}

// TestAPoolThatHasAllOfThePoolersConnectionsStaysInTraffic, used or not: in session mode they are the pool's even while they
// are idle, and none is left for the check.
func TestAPoolThatHasAllOfThePoolersConnectionsStaysInTraffic(t *testing.T) {
	t.Parallel()
	b := startBouncer(t, pgtest.StartTB(t, pgtest.Config{}), "session", onlyOne)
	db := openPool(t, b.dsn("", "server_settings", dropped, "preflight", "off", "pool_size", "1", "max_overflow", "0", "command_timeout", "1s"))
	require.NoError(t, db.Ping())
	before := statusOf(t, db)
	start := time.Now()
	for time.Since(start) < 10*time.Second { // longer than it may be silent
		h := pgprod.Check(t.Context(), db)
		require.Equal(t, "degraded", h.Status, h.Reason)
	}
	require.NoError(t, db.Ping())
	assert.Equal(t, before.Closed, statusOf(t, db).Closed)
}

// behindBouncer opens a pool as internal/docs/poolers.md says.
func behindBouncer(t *testing.T, keysAndValues ...string) (*bouncer, client) {
	t.Helper()
	b := startBouncer(t, pgtest.StartTB(t, pgtest.Config{}), "transaction")
	settings := append([]string{"server_settings_mode", "set", "default_query_exec_mode", "exec"}, keysAndValues...)
	return b, newClient(t, b.dsn(b.database(t), settings...))
}

func TestCommandTimeoutCancelsThroughPgBouncerAndKeepsTheConnection(t *testing.T) {
	t.Parallel()
	b, c := behindBouncer(t, "command_timeout", "1s", "pool_size", "1", "max_overflow", "0")
	require.NoError(t, c.Ping())
	cut := func(t *pgtest.Trial, limit time.Duration, do func() error) {
		err := t.Cut(limit, do)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, "57014", sqlState(err))
	}
	for range 2 {
		pgtest.Confirmed(t, func(t *pgtest.Trial) {
			closed := closedSoFar(t, c.DB)
			cut(t, time.Second, func() error {
				_, err := c.Exec("select pg_sleep(15)")
				require.ErrorContains(t, err, "command_timeout")
				return err
			})
			cut(t, 50*time.Millisecond, func() error {
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				_, err := c.ExecContext(ctx, "select pg_sleep(15)")
				return err
			})
			tx, err := c.Begin()
			require.NoError(t, err)
			defer func() { _ = tx.Rollback() }() // else where the server was late
			cut(t, time.Second, func() error {
				_, err := tx.Exec("select pg_sleep(15)")
				return err
			})
			require.NoError(t, tx.Rollback())
			assert.Equal(t, 1, c.count("select 1"))
			assert.Equal(t, closed, closedSoFar(t, c.DB))
		})
	}
	pgtest.Eventually(t, patience, func() bool {
		running, err := b.server.Backends(t.Context())
		require.NoError(t, err)
		return !slices.ContainsFunc(running, func(backend pgtest.Backend) bool {
			return backend.State == "active" && strings.HasPrefix(backend.Query, "select pg_sleep")
		})
	}, "a statement runs on")
}

func TestThePoolKeepsItsBoundsBehindPgBouncer(t *testing.T) {
	t.Parallel()
	_, c := behindBouncer(t, "pool_size", "2", "max_overflow", "1", "pool_timeout", "2s")
	var held []*sql.Tx
	for range 3 {
		tx, err := c.Begin()
		require.NoError(t, err)
		held = append(held, tx)
	}
	_, err := c.Exec("select 1")
	require.ErrorIs(t, err, pgprod.ErrPoolTimeout)
	for _, tx := range held {
		require.NoError(t, tx.Rollback())
	}
	pgtest.Eventually(t, patience, func() bool { return c.status().CheckedIn == 2 })
	s := c.status()
	assert.Zero(t, s.CheckedOut)
	assert.EqualValues(t, 1, s.Closed["overflow"])
}

func TestKilledServerConnectionsBehindPgBouncerCostOnlyWhatWasInFlight(t *testing.T) {
	t.Parallel()
	b, c := behindBouncer(t)
	stmt, err := c.Prepare("select $1::int + 1")
	require.NoError(t, err)
	defer func() { _ = stmt.Close() }()
	for range 3 {
		assert.Empty(t, mixedRun(c.DB))
		require.NoError(t, b.server.TerminateAll(t.Context())) // all are idle
		// PgBouncer may have given the dead one out already: it tells the statement's client then.
		pgtest.Eventually(t, patience, func() bool { return mixedLoad(c.DB, stmt, 0) == nil })
	}

	load := startCrowd(t, 8, func(worker int) error { return mixedLoad(c.DB, stmt, worker) })
	load.advance(t, 5)
	for round := 1; round <= 3; round++ {
		require.NoError(t, b.server.TerminateAll(t.Context()))
		load.advance(t, 5)
		load.requireAtMost(t, 2*round) // whoever was in flight may get another dead one, see above
	}
	load.finish()
	for _, err := range load.failures() {
		assert.NotContains(t, err.Error(), "prepared statement")
		assert.NotErrorIs(t, err, pgprod.ErrPoolTimeout)
	}
	t.Logf("%d rounds, %d errors in three kills", load.rounds(), len(load.failures()))
	assert.Equal(t, 400, c.count(total))
}

func TestARestartOfPgBouncerUnderLoadCostsOnlyWhatWasInFlight(t *testing.T) {
	t.Parallel()
	b, c := behindBouncer(t)
	stmt, err := c.Prepare("select $1::int + 1")
	require.NoError(t, err)
	defer func() { _ = stmt.Close() }()
	load := startCrowd(t, 8, func(worker int) error { return mixedLoad(c.DB, stmt, worker) })
	load.advance(t, 5)
	for round := 1; round <= 3; round++ {
		b.Kill()
		awaitFailedDials(t, c, 1)
		b.Start()
		load.advance(t, 5)
		load.requireAtMost(t, round)
	}
	load.finish()
	t.Logf("%d rounds, %d errors in three restarts", load.rounds(), len(load.failures()))
	assert.Equal(t, 400, c.count(total))
}

func TestARestartOfTheServerBehindPgBouncerIsWaitedOut(t *testing.T) {
	t.Parallel()
	b, c := behindBouncer(t)
	stmt, err := c.Prepare("select $1::int + 1")
	require.NoError(t, err)
	defer func() { _ = stmt.Close() }()
	load := startCrowd(t, 8, func(worker int) error { return mixedLoad(c.DB, stmt, worker) })
	load.advance(t, 5)
	require.NoError(t, b.server.Restart(t.Context(), pgtest.Fast))
	load.advance(t, 5)
	load.finish()
	t.Logf("%d rounds, %d errors", load.rounds(), len(load.failures()))
	assert.Equal(t, 400, c.count(total))
}

func TestRawAndNotificationsBehindPgBouncer(t *testing.T) {
	t.Parallel()
	_, c := behindBouncer(t)
	require.NoError(t, pgprod.Raw(t.Context(), c.DB, func(conn *pgx.Conn) error {
		n, err := conn.CopyFrom(t.Context(), pgx.Identifier{"accounts"}, []string{"id", "amount"},
			pgx.CopyFromRows([][]any{{10, 0}, {11, 0}}))
		return errors.Join(err, assertEqual(2, int(n)))
	}))
	assert.Equal(t, 6, c.count("select count(*) from accounts"))
}

func assertEqual(want, got int) error {
	if want != got {
		return fmt.Errorf("want %d, got %d", want, got)
	}
	return nil
}
