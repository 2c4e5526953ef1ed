package drivertest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// parsed is pgx's configuration for a DSN.
func parsed(t *testing.T, dsn string) *pgx.ConnConfig {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	return cfg
}

// heldFields says, of each field that pgx's configuration has, what becomes of it with WithConnConfig, and which test shows it.
var heldFields = map[string]string{
	"Host": "kept: TestAWholeConfigurationSaysWhereToConnect", "Port": "kept: same", "Database": "kept: same", "User": "kept: same",
	"Password":       "kept: TestThePasswordOfAConfiguration",
	"TLSConfig":      "kept: TestTheTLSOfAConfigurationIsItsOwn",
	"Fallbacks":      "kept: TestAConfigurationsOtherHostsAreTried",
	"RuntimeParams":  "kept, as if in the DSN: TestOurSettingsHoldBesideAConfiguration",
	"ConnectTimeout": "kept, as if in the DSN: TestOurSettingsHoldBesideAConfiguration",

	"DialFunc": "kept: TestTheFunctionsOfAConfigurationAreCalled", "LookupFunc": "kept: same", "AfterNetConnect": "kept: same",
	"ValidateConnect": "kept: same", "AfterConnect": "kept: same", "OnNotification": "kept: same", "OnPgError": "kept: same",
	"OnNotice": "called besides ours: same", "BuildFrontend": "called besides ours: same", "Tracer": "called besides ours: same",
	"BuildContextWatcherHandler": "refused: TestWhatAConfigurationMustNotSayIsRefusedByName",

	"StatementCacheCapacity": "kept: TestTheModesOfAConfigurationHold", "DescriptionCacheCapacity": "kept: same",
	"DefaultQueryExecMode": "kept: same",

	// pgx alone looks at these, in the configuration that it gets.
	"MaxProtocolMessageBodyLen": "kept: TestWhatOnlyPgxReadsReachesIt", "MinProtocolVersion": "kept: same", "MaxProtocolVersion": "kept: same",
	"ChannelBinding": "kept: same", "RequireAuth": "kept: same", "SSLNegotiation": "kept: same", "SSLCertMode": "kept: same",
	"KerberosSrvName": "kept: same", "KerberosSpn": "kept: same", "OAuthTokenProvider": "kept: same",
}

func TestItIsKnownWhatBecomesOfEachFieldOfPgxsConfiguration(t *testing.T) {
	var fields []string
	for _, config := range []reflect.Type{reflect.TypeFor[pgx.ConnConfig](), reflect.TypeFor[pgconn.Config]()} {
		for field := range config.Fields() {
			if field.IsExported() && !field.Anonymous {
				fields = append(fields, field.Name)
			}
		}
	}
	for _, name := range fields {
		assert.Contains(t, heldFields, name, "pgx has a new field: see to it that WithConnConfig keeps, chains or refuses it")
	}
	for name := range heldFields {
		assert.Contains(t, fields, name, "pgx has no such field any more")
	}
	fallback := reflect.TypeFor[pgconn.FallbackConfig]()
	assert.Equal(t, 3, fallback.NumField(), "Host, Port, TLSConfig")
}

func TestAWholeConfigurationSaysWhereToConnect(t *testing.T) {
	t.Setenv("DB_DSN", "host=nowhere.invalid")
	t.Setenv("DATABASE_URL", "host=nowhere.invalid")
	dsn := pgtest.NewDatabase(t)
	cfg := parsed(t, "host=elsewhere.invalid dbname=other user=nobody")
	right := parsed(t, dsn)
	cfg.Host, cfg.Port, cfg.Database, cfg.User, cfg.Password = right.Host, right.Port, right.Database, right.User, right.Password
	cfg.TLSConfig, cfg.Fallbacks = nil, nil
	option := pgprod.WithConnConfig(cfg)
	cfg.Host = "changed.invalid" // it was copied
	for range 2 {
		db := openPool(t, "", option)
		assert.Equal(t, right.Database, get[string](t, db, "select current_database()"))
	}
	db := openPool(t, dsn, pgprod.WithConnConfig(nil))
	assert.Equal(t, right.Database, get[string](t, db, "select current_database()"), "nil means none")
}

func TestOurSettingsHoldBesideAConfiguration(t *testing.T) {
	t.Setenv("DB_POOL_SIZE", "7")
	t.Setenv("DB_SERVER_SETTINGS", "work_mem=5MB,app.from=environment")
	cfg := parsed(t, with(pgtest.NewDatabase(t), "work_mem", "6MB", "max_overflow", "3", "pool_name", "in its DSN"))
	db := openPool(t, "pool_name='beside it' slow_query=2s", pgprod.WithConnConfig(cfg), pgprod.WithMaxOverflow(4))
	s := statusOf(t, db)
	assert.Equal(t, 7, s.PoolSize)
	assert.Equal(t, 4, s.MaxOverflow, "an option wins over the DSN that pgx has parsed")
	assert.Equal(t, "beside it", s.PoolName, "so does the DSN beside it")
	assert.Equal(t, "6MB environment 1.1 31s", get[string](t, db, "select concat_ws(' ', current_setting('work_mem'), "+
		"current_setting('app.from'), current_setting('random_page_cost'), current_setting('statement_timeout'))"))
}

func TestTheConnectTimeoutOfAConfigurationBoundsADial(t *testing.T) {
	t.Parallel()
	slow := parsed(t, "host=10.255.255.1 sslmode=disable connect_timeout=1")
	slow.LookupFunc = func(ctx context.Context, _ string) ([]string, error) { <-ctx.Done(); return nil, ctx.Err() }
	hangs := openPool(t, "pool_timeout=4s", pgprod.WithConnConfig(slow))
	require.ErrorContains(t, hangs.Ping(), "deadline exceeded", "its connect_timeout holds, and bounds the dial")
}

func TestThePasswordOfAConfiguration(t *testing.T) {
	server := pgtest.StartTB(t, pgtest.Config{})
	require.NoError(t, server.SetPassword(t.Context(), "s3cret"))
	cfg := parsed(t, fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable", server.Port()))
	cfg.Password = "s3cret"
	t.Setenv("DB_PASSWORD", "wrong")
	mustExec(t, openPool(t, "", pgprod.WithConnConfig(cfg)), "select 1")
	cfg.Password = "wrong too"
	mustExec(t, openPool(t, "", pgprod.WithConnConfig(cfg),
		pgprod.WithPasswordFunc(func(context.Context) (string, error) { return "s3cret", nil })), "select 1")
	cfg.Password = ""
	t.Setenv("DB_PASSWORD", "s3cret")
	mustExec(t, openPool(t, "", pgprod.WithConnConfig(cfg)), "select 1")
}

func TestTheTLSOfAConfigurationIsItsOwn(t *testing.T) {
	t.Parallel()
	ca, err := pgtest.NewCA()
	require.NoError(t, err)
	server := pgtest.StartTB(t, pgtest.Config{TLS: &pgtest.TLS{CA: ca, Hosts: []string{nowhere}}})
	authorities := x509.NewCertPool()
	require.True(t, authorities.AppendCertsFromPEM(ca.PEM()))
	cfg := parsed(t, far(server, "sslmode=verify-full"))
	cfg.TLSConfig = &tls.Config{ServerName: nowhere, RootCAs: authorities} // no file has them
	for range 2 {
		db := openPool(t, "pool_size=1", pgprod.WithConnConfig(cfg))
		assert.True(t, get[bool](t, db, isEncrypted))
	}
	log := &logBuffer{}
	plain := openPool(t, "", pgprod.WithConnConfig(parsed(t, far(server, "sslmode=disable"))), pgprod.WithLogger(log.logger()))
	assert.False(t, get[bool](t, plain, isEncrypted))
	assert.Contains(t, log.String(), "option WithConnConfig: sslmode is weaker than require")
}

func TestAConfigurationsOtherHostsAreTried(t *testing.T) {
	cfg := parsed(t, pgtest.NewDatabase(t))
	cfg.Fallbacks = []*pgconn.FallbackConfig{{Host: cfg.Host, Port: cfg.Port}}
	cfg.Host, cfg.Port = nowhere, 1
	mustExec(t, openPool(t, "", pgprod.WithConnConfig(cfg)), "select 1")
}

// A follower notes which functions of a configuration were called.
type follower struct {
	mu     sync.Mutex // guards called
	called map[string]int
}

func (w *follower) note(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.called == nil {
		w.called = map[string]int{}
	}
	w.called[name]++
}

// names are the functions that were called.
func (w *follower) names() (all []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.called {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// TraceQueryStart implements pgx.QueryTracer.
func (w *follower) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	w.note("Tracer")
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (w *follower) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// follow sets all functions of a configuration to ones that note their call.
func (w *follower) follow(cfg *pgx.ConnConfig) {
	dial, lookup, build, onError := cfg.DialFunc, cfg.LookupFunc, cfg.BuildFrontend, cfg.OnPgError
	cfg.Tracer = w
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		w.note("DialFunc")
		return dial(ctx, network, addr)
	}
	cfg.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
		w.note("LookupFunc")
		return lookup(ctx, host)
	}
	cfg.BuildFrontend = func(r io.Reader, w2 io.Writer) *pgproto3.Frontend { w.note("BuildFrontend"); return build(r, w2) }
	cfg.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, c net.Conn) (net.Conn, error) {
		w.note("AfterNetConnect")
		return struct{ net.Conn }{c}, nil
	}
	cfg.ValidateConnect = func(context.Context, *pgconn.PgConn) error { w.note("ValidateConnect"); return nil }
	cfg.AfterConnect = func(ctx context.Context, pg *pgconn.PgConn) error {
		w.note("AfterConnect")
		return pg.Exec(ctx, "set work_mem = '13MB'").Close()
	}
	cfg.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) { w.note("OnNotice") }
	cfg.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) { w.note("OnNotification") }
	cfg.OnPgError = func(pg *pgconn.PgConn, err *pgconn.PgError) bool { w.note("OnPgError"); return onError(pg, err) }
}

func TestTheFunctionsOfAConfigurationAreCalled(t *testing.T) {
	w, heard := &follower{}, &ear{}
	cfg := parsed(t, oneConn(pgtest.NewDatabase(t), "command_timeout", "300ms"))
	cfg.Host = "localhost"
	w.follow(cfg)
	db := openPool(t, "", pgprod.WithConnConfig(cfg), heard.option())
	mustExec(t, db, "do $$ begin raise notice 'for both'; end $$")
	assert.Equal(t, []string{"NOTICE for both"}, heard.said(), "ours goes on")
	_, err := db.Exec("select 1/0")
	require.Equal(t, "22012", sqlState(err))
	conn := hold(t, db)
	mustExec(t, conn, "listen c")
	mustExec(t, conn, "notify c")
	require.NoError(t, conn.Close())
	assert.Equal(t, []string{"AfterConnect", "AfterNetConnect", "BuildFrontend", "DialFunc", "LookupFunc", "OnNotice", "OnNotification",
		"OnPgError", "Tracer", "ValidateConnect"}, w.names())

	pid := backendPID(t, db)
	mustExec(t, db, "set work_mem = '14MB'")
	assert.Equal(t, "13MB", get[string](t, db, "show work_mem"), "what AfterConnect sets stays")
	_, err = db.Exec("select pg_sleep(60)")
	requireCut(t, err, context.DeadlineExceeded)
	assert.Equal(t, pid, backendPID(t, db), "cancel requests are sent, and nothing has cost the connection")
	require.NoError(t, pgprod.InTx(t.Context(), db, func(tx *sql.Tx) error { mustExec(t, tx, "select 1"); return nil }), "riders travel")

	calls := w.called["AfterConnect"]
	require.Equal(t, "healthy", string(pgprod.Check(t.Context(), db).Status))
	assert.Equal(t, calls, w.called["AfterConnect"], "not for a health check")

	other := &follower{}
	other.follow(cfg)
	ours := openPool(t, "", pgprod.WithConnConfig(cfg), pgprod.WithDialFunc((&net.Dialer{}).DialContext))
	mustExec(t, ours, "select 1")
	assert.NotContains(t, other.names(), "DialFunc", "WithDialFunc takes its place")
}

func TestAFailureInAFunctionOfAConfigurationIsTheDials(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	for name, change := range map[string]func(*pgx.ConnConfig, func() error){
		"AfterConnect": func(cfg *pgx.ConnConfig, f func() error) {
			cfg.AfterConnect = func(context.Context, *pgconn.PgConn) error { return f() }
		},
		"ValidateConnect": func(cfg *pgx.ConnConfig, f func() error) {
			cfg.ValidateConnect = func(context.Context, *pgconn.PgConn) error { return f() }
		},
		"AfterNetConnect": func(cfg *pgx.ConnConfig, f func() error) {
			cfg.AfterNetConnect = func(context.Context, *pgconn.Config, net.Conn) (net.Conn, error) { return nil, f() }
		},
		"DialFunc": func(cfg *pgx.ConnConfig, f func() error) {
			cfg.DialFunc = func(context.Context, string, string) (net.Conn, error) { return nil, f() }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			released := make(chan struct{})
			t.Cleanup(func() { close(released) })
			for want, f := range map[string]func() error{
				"not today":               func() error { return errors.New("not today") },
				"a bug of its":            func() error { panic("a bug of its") },
				"context deadline exceed": func() error { <-released; return nil },
			} {
				cfg := parsed(t, dsn)
				change(cfg, f)
				require.ErrorContains(t, openPool(t, "pool_timeout=1s connect_timeout=200ms", pgprod.WithConnConfig(cfg)).Ping(), want)
			}
		})
	}
}

func TestTheModesOfAConfigurationHold(t *testing.T) {
	cfg := parsed(t, oneConn(pgtest.NewDatabase(t)))
	const prepared = "select count(*) from pg_prepared_statements where statement like 'select $1::int +%'"
	for capacity, want := range map[int]int{0: 0, 2: 2} {
		cfg.StatementCacheCapacity = capacity
		if cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement; capacity == 0 {
			cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
		}
		db := openPool(t, "", pgprod.WithConnConfig(cfg))
		for i := range 4 {
			assert.Equal(t, 1+i, get[int](t, db, "select $1::int + "+strconv.Itoa(i), 1))
		}
		assert.LessOrEqual(t, get[int](t, db, prepared), want)
	}
	cfg.DefaultQueryExecMode, cfg.DescriptionCacheCapacity = pgx.QueryExecModeCacheDescribe, 1
	assert.Equal(t, 2, get[int](t, openPool(t, "", pgprod.WithConnConfig(cfg)), "select $1::int + 1", 1))
}

func TestWhatOnlyPgxReadsReachesIt(t *testing.T) {
	t.Parallel()
	cfg := parsed(t, pgtest.NewDatabase(t))
	cfg.RequireAuth = "scram-sha-256" // the server asks for none
	require.ErrorContains(t, openPool(t, "pool_timeout=1s", pgprod.WithConnConfig(cfg)).Ping(), "require_auth")
	cfg.RequireAuth, cfg.MaxProtocolMessageBodyLen = "", 1000
	_, err := openPool(t, "", pgprod.WithConnConfig(cfg)).Query("select repeat('x', 2000)")
	require.ErrorContains(t, err, "body")
	for field, value := range map[string]any{
		"MinProtocolVersion": "3.2", "MaxProtocolVersion": "3.2", "ChannelBinding": "disable", "SSLNegotiation": "direct",
		"SSLCertMode": "disable", "KerberosSrvName": "k", "KerberosSpn": "k",
		"OAuthTokenProvider": func(context.Context) (string, error) { return "", nil },
	} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			cfg := parsed(t, "host=127.0.0.1 sslmode=disable")
			cfg.DialFunc = func(context.Context, string, string) (net.Conn, error) { c, _ := net.Pipe(); return c, nil }
			reflect.ValueOf(cfg).Elem().FieldByName(field).Set(reflect.ValueOf(value))
			if field == "MinProtocolVersion" {
				cfg.MaxProtocolVersion = "3.2"
			}
			got := make(chan reflect.Value, 100)
			cfg.AfterNetConnect = func(_ context.Context, config *pgconn.Config, _ net.Conn) (net.Conn, error) {
				got <- reflect.ValueOf(*config).FieldByName(field)
				return nil, errors.New("seen")
			}
			require.ErrorContains(t, openPool(t, "pool_timeout=1s", pgprod.WithConnConfig(cfg)).Ping(), "seen")
			if reached := <-got; reached.Kind() == reflect.Func {
				assert.False(t, reached.IsNil(), field)
			} else {
				assert.Equal(t, value, reached.Interface(), field)
			}
		})
	}
}

func TestWhatAConfigurationMustNotSayIsRefusedByName(t *testing.T) {
	cfg := parsed(t, "host=db.example.com")
	refuses := func(want string, dsn string, option pgprod.Option) {
		t.Helper()
		_, err := pgprod.Open(dsn, option)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "pgprod: ")
		require.NotContains(t, err.Error(), "s3cret")
	}
	given := pgprod.WithConnConfig(cfg)
	refuses("DSN key host and option WithConnConfig", "host=h pool_size=3", given)
	refuses("DSN key password and option WithConnConfig", "password=s3cret", given)
	refuses("DSN key sslmode and option WithConnConfig", "sslmode=disable", given)
	refuses("DSN key work_mem and option WithConnConfig", "work_mem=5MB", given)
	refuses("DSN and option WithConnConfig", "postgres://h/s3cret", given)
	refuses("DSN and option WithConnConfig", "s3cret", given)
	refuses("DSN and option WithConnConfig", "pool_size=1 s3cret", given)
	refuses("DSN key pool_size", "pool_size=0", given)
	refuses("result of pgx.ParseConfig", "", pgprod.WithConnConfig(&pgx.ConnConfig{}))
	changed := parsed(t, "host=db.example.com")
	changed.BuildContextWatcherHandler = func(pg *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: pg}
	}
	refuses("BuildContextWatcherHandler", "", pgprod.WithConnConfig(changed))
	misspelt := parsed(t, "host=db.example.com pool_sise=3")
	refuses("option WithConnConfig: run-time parameter pool_sise", "", pgprod.WithConnConfig(misspelt))
}
