// Package pgprod is a database/sql driver for PostgreSQL that makes a production pool out of one changed word:
//
//	db, err := sql.Open("pgprod", "postgres://app@db.example.com/shop")
//
// in place of sql.Open("pgx", …). Statements, types and errors are those of [github.com/jackc/pgx/v5/stdlib], which does
// the work below. [Open] is the same with options in code, and whatever takes a *sql.DB or a driver's name works on top.
//
// # Settings
//
// A DSN is a URL or key=value pairs as for pgx; its other keys (sslmode, target_session_attrs, default_query_exec_mode,
// …) keep their meaning, and a run-time parameter of the server may stand there too. The keys of this driver and their
// defaults:
//
//	profile               medium       small 10/5/20s/30m, medium 20/10/30s/30m, large 50/20/10s/15m for the next four
//	pool_size             20           connections kept when idle
//	max_overflow          10           connections beyond that, closed when given back; -1: unlimited
//	pool_timeout          30s          longest wait for a connection, then ErrPoolTimeout; 0: the context decides
//	pool_recycle          30m          age at which a connection is replaced, less up to 10 % jitter; 0: never
//	pool_idle_timeout     10m          how long a connection may lie idle; 0: for ever
//	pool_min              0            connections made ahead, from the pool's first use on, and kept
//	pool_pre_ping         auto         peek at each borrow, ping after 1 s idle; or always, or off
//	pool_name             the database
//	environment           production   or development: echo, plans on, TLS by libpq's rules
//	echo, echo_pool       off          log every statement, every event of the pool
//	slow_query            1s           log statements slower than this; 0: never
//	slow_query_plan       off          the live page shows plans of slow statements
//	leak_detection        1m           log the stack of who holds a connection longer than this; 0: never
//	preflight             on           look once for what is wrong with server, role and settings
//	server_settings       jit=off,random_page_cost=1.1,effective_cache_size=1GB,
//	                      idle_in_transaction_session_timeout=300000, application_name=the program's name;
//	                      merged by name, an empty value drops a name
//	server_settings_mode  startup      or set: with set_config after connecting
//	pool_reset            auto         what a borrower is seen to leave in the session is undone before the next one's
//	                                   statements; or always: whatever it is; or off
//	begin                 lazy         BEGIN travels with the first statement; or eager: by itself
//	once_table            pgprod_once  where TxOnce keeps its keys
//	trace_context         off          or application_name, or comment: where a sampled statement has its traceparent
//	command_timeout       30s          longest statement, its rows included; 0: none
//	connect_timeout       5s           one dial
//	password_file                      read at every dial
//	load_balance_hosts    disable      or random: the order in which hosts are tried
//	dead_after            1s           how long a silent host goes unnoticed, and then has to answer; 0: command_timeout
//	env_prefix            DB_          what the variables below begin with
//
// Each but the last is an environment variable as well, in capitals after the prefix: DB_POOL_SIZE. (libpq's
// PGCONNECT_TIMEOUT counts where DB_CONNECT_TIMEOUT isn't set.) An Option in code wins over a DSN key, that over the
// environment, that over the profile, that over the default. Durations are 30s, 1m30s or bare seconds. With an empty DSN
// the DSN is in DB_DSN, else DATABASE_URL, else libpq's PG* variables; the password, unless the DSN has it, may be in
// DB_PASSWORD. Everything is validated by sql.Open, in one error that names each offending key.
//
// # What it does
//
// Waiting: at most pool_size + max_overflow connections exist. Callers wait for one in the order in which they came, for
// pool_timeout at most, and then get [ErrPoolTimeout]. Limits that an application sets on its *sql.DB apply as well.
//
// Connecting: a dial outlives the caller that wanted it, is repeated while callers wait, and its connection serves
// whoever is next. If the server refuses for good, as with a wrong password, callers get the error at once; if the reason
// may pass, after two seconds.
//
// Validating: a dead connection is found before it is lent, except within 50 µs after the server was last heard on it, and
// with pool_pre_ping=off. When one is lost, all connections of its age are replaced, unless the server ended that session
// only.
//
// Repeating: a statement is tried again only if nothing of it is left for certain: the server can't have executed it, or says
// itself that it has ended it, as in a restart; or if its context says that it may run twice ([ContextRepeatable]). No
// driver.ErrBadConn ever reaches database/sql, which would run the statement again. A Commit whose reply was lost, or that no
// synchronous standby has confirmed, is [ErrCommitUnknown]. [InTx] repeats a transaction that was certainly rolled back: the
// server gave it up in favour of another or ended its session, or its connection was lost before COMMIT was sent. With
// [TxOnce] it also finds out what became of a COMMIT whose reply was lost.
//
// Telemetry: spans and metrics by OpenTelemetry's stable conventions go to its global providers, or to those of
// [WithTracerProvider] and [WithMeterProvider]; without an SDK they allocate nothing. Literals in statements are hidden.
//
// Timeouts: when command_timeout or the caller's context ends a statement, it is cancelled on the server and the
// connection lives on; the error is both context.DeadlineExceeded (or Canceled) and the server's.
//
// Sessions: what a borrower's SET, LISTEN, PREPARE and others leave in its session is undone in front of the next borrower's
// first statement (pool_reset); a connection with an open transaction is not lent again. Settings that every session needs
// belong in server_settings.
//
// Logging: failed and slow statements, outages, leaks, and what the preflight found go to slog.Default() or [WithLogger],
// without parameter values or literals; what repeats is counted. A healthy service logs nothing. In development statements
// that run in a loop (N+1) are logged as well, with the line that calls; a test holds a budget by [ContextCounting].
//
// Looking: [Status] returns the pool's numbers, [Check] and [HealthHandler] the health of pool and server, [DebugHandler] is
// a live page with all that is known, and [Raw] gives you the *pgx.Conn for what database/sql can't express.
//
// The manual, with a runbook, is at https://github.com/pgprod/pgprod.
package pgprod

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"io"
	"sync"

	"github.com/pgprod/pgprod/internal/pool"
	"github.com/pgprod/pgprod/internal/settings"
)

// DriverName is the name under which the driver is registered with database/sql.
const DriverName = "pgprod"

func init() { Register(DriverName) }

var registered = struct {
	sync.Mutex // guards names
	names      map[string]bool
}{names: map[string]bool{}}

// Register registers the driver under another name, for libraries that choose their SQL dialect by the driver's name:
// Register("postgres") serves sqlx and ent. (goose opens plain pgx by that name, whoever has it: pass it a *sql.DB.)
// Registering a name again does nothing. Like sql.Register it panics if another driver has the name. It is safe for
// concurrent use.
func Register(name string) {
	registered.Lock()
	defer registered.Unlock()
	if registered.names[name] {
		return
	}
	sql.Register(name, sqlDriver{})
	registered.names[name] = true
}

// Open opens a pool: the same as sql.Open("pgprod", dsn), with options. Like sql.Open it makes no connection; a wrong
// DSN, environment or option fails here, in one error that names every offending key. The *sql.DB is safe for
// concurrent use; its Close closes the pool.
func Open(dsn string, opts ...Option) (*sql.DB, error) {
	c, err := NewConnector(dsn, opts...)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(c), nil
}

// A Connector is a pool, to be passed to sql.OpenDB. It is safe for concurrent use.
type Connector struct{ pool *pool.Pool }

var (
	_ driver.Connector = (*Connector)(nil)
	_ io.Closer        = (*Connector)(nil) // for (*sql.DB).Close
)

// NewConnector returns a Connector, to be passed to sql.OpenDB once. Closing that *sql.DB closes the Connector; if it is
// passed to nobody, call Close. Errors are as for Open.
func NewConnector(dsn string, opts ...Option) (*Connector, error) {
	cfg, c, err := resolve(dsn, opts)
	if err != nil {
		return nil, err
	}
	p, err := pool.New(cfg, pool.Hooks{
		Logger: c.logger, Login: c.login.source(), Telemetry: c.telemetry,
		Notice: c.notice, Dial: c.dial, AfterConnect: c.afterConnect,
		Commenter: c.sqlCommenter(cfg.Conn.RuntimeParams["application_name"], cfg.TraceContext == settings.TraceByText),
	})
	if err != nil {
		return nil, err
	}
	return &Connector{p}, nil
}

// Connect implements driver.Connector. It returns a session, and does no I/O. The session takes a connection from the pool
// at its first use, and gives it back when database/sql puts the session into its own pool.
func (c *Connector) Connect(context.Context) (driver.Conn, error) { return c.pool.Session(), nil }

// Driver implements driver.Connector. The driver that it returns knows its pool, so that Status and the like find the pool
// of a *sql.DB.
func (c *Connector) Driver() driver.Driver { return poolDriver{pool: c.pool} }

// Close closes the pool: it waits for dials, pings and goodbyes under way to end, a few seconds at most, and not for
// connections in use, which are closed when they are given back. It may be called more than once. (*sql.DB).Close calls it.
func (c *Connector) Close() error { return c.pool.Close() }

// sqlDriver is the driver that is registered with database/sql.
type sqlDriver struct{}

var (
	_ driver.Driver        = sqlDriver{}
	_ driver.DriverContext = sqlDriver{}
)

// OpenConnector implements driver.DriverContext. sql.Open calls it, and so validates all settings.
func (sqlDriver) OpenConnector(dsn string) (driver.Connector, error) {
	c, err := NewConnector(dsn)
	if err != nil {
		return nil, err // not c: a nil *Connector would be a non-nil interface
	}
	return c, nil
}

// Open implements driver.Driver, for callers that don't know OpenConnector. Each connection has a pool of its own, which is
// closed with it.
func (d sqlDriver) Open(dsn string) (driver.Conn, error) {
	c, err := NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	return c.pool.OnlySession(), nil
}

// poolDriver is the driver of one *sql.DB, as (*sql.DB).Driver returns it.
type poolDriver struct {
	sqlDriver
	pool *pool.Pool
}

var _ driver.DriverContext = poolDriver{}
