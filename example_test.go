package pgprod_test

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.yaml.in/yaml/v3"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// TestMain sets DB_DSN to a server for the examples, which all open the DSN "".
func TestMain(m *testing.M) {
	stop, err := setDSN()
	if err != nil {
		log.Fatal(err)
	}
	code := pgtest.Main(m)
	if err := stop(); err != nil {
		log.Fatal(err)
	}
	os.Exit(code)
}

func setDSN() (stop func() error, err error) {
	if dsn := os.Getenv("DB_TEST_DSN"); dsn != "" {
		return func() error { return nil }, os.Setenv("DB_DSN", dsn)
	}
	server, err := pgtest.Start(context.Background(), pgtest.Config{})
	if err != nil {
		return nil, err
	}
	stop = func() error { return server.Stop(context.Background()) }
	return stop, os.Setenv("DB_DSN", server.DSN(""))
}

// account is DB_DSN without its password, and that; a server that asks for none takes any.
func account() (dsn, password string) {
	u, err := url.Parse(os.Getenv("DB_DSN"))
	if err != nil {
		log.Fatal("DB_TEST_DSN must be a URL") // the cause would show it
	}
	password, _ = u.User.Password()
	u.User = url.User(u.User.Username())
	return u.String(), cmp.Or(password, "anything")
}

// withoutTimes is for slog's ReplaceAttr: it drops what is different in each run, which no example can expect.
func withoutTimes(_ []string, a slog.Attr) slog.Attr {
	switch a.Key {
	case "time", "took", "held", "waited", "server", "reading", "duration", "pid", "stack", "cause", "seen_after":
		return slog.Attr{}
	}
	return a
}

// mustOpen opens the examples' database.
func mustOpen(opts ...pgprod.Option) *sql.DB {
	db, err := pgprod.Open("", opts...)
	if err != nil {
		log.Fatal(err)
	}
	return db
}

// statusOf is a pool's status, which is an error only for a *sql.DB of others.
func statusOf(db *sql.DB) pgprod.PoolStatus {
	status, err := pgprod.Status(db)
	if err != nil {
		log.Fatal(err)
	}
	return status
}

// show is what the server says of one of its settings.
func show(db interface {
	QueryRow(query string, args ...any) *sql.Row
}, setting string) (value string) {
	if err := db.QueryRow("show " + setting).Scan(&value); err != nil {
		log.Fatal(err)
	}
	return value
}

// lines are what is logged.
type lines chan string

func (l lines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// logger logs what is the same in each run.
func logger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: withoutTimes}))
}

// The program of the README. Whatever opens a database by its driver's name becomes a pool in the same way. GORM does so
// with
//
//	gorm.Open(postgres.New(postgres.Config{DriverName: "pgprod", DSN: dsn}), &gorm.Config{})
//
// and sqlx with sqlx.Open("pgprod", dsn), after sqlx.BindDriver("pgprod", sqlx.DOLLAR).
func Example() {
	db, err := sql.Open("pgprod", "") // was "pgx"; an empty DSN means the one in DB_DSN
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	var answer int
	if err := db.QueryRow("select 6 * $1::int", 7).Scan(&answer); err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer)
	// Output: 42
}

// Everything can be set in code as well; an option wins over the DSN, the environment, the profile and the default.
func ExampleOpen() {
	db, err := pgprod.Open("",
		pgprod.WithProfile("small"),
		pgprod.WithPoolTimeout(5*time.Second),
		pgprod.WithCommandTimeout(10*time.Second),
		pgprod.WithServerSettings(map[string]string{"application_name": "shop", "jit": ""}), // "": leave it to the server
	)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	var name string
	if err := db.QueryRow("select current_setting('application_name')").Scan(&name); err != nil {
		log.Fatal(err)
	}
	fmt.Println(name)
	// Output: shop
}

// A wrong setting fails at once, with everything that is wrong.
func ExampleOpen_mistakes() {
	_, err := pgprod.Open("postgres://app@db.example.com/shop?pool_sise=20", pgprod.WithMaxOverflow(-5))
	fmt.Println(err)
	// Output:
	// pgprod: option WithMaxOverflow: must be a whole number of at least 0, or -1 for no limit
	// pgprod: DSN key pool_sise: is not a setting; did you mean pool_size?
}

// A Connector is for code that calls sql.OpenDB itself.
func ExampleNewConnector() {
	connector, err := pgprod.NewConnector("", pgprod.WithPoolName("orders"))
	if err != nil {
		log.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer db.Close() // closes the connector

	fmt.Println(db.Ping())
	// Output: <nil>
}

// Libraries that take their SQL dialect from the driver's name (sqlx, ent) find a name that they know.
func ExampleRegister() {
	pgprod.Register("postgres")
	db, err := sql.Open("postgres", "")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	fmt.Println(db.Ping())
	// Output: <nil>
}

// How full the pool is, for a page or a log of yours.
func ExampleStatus() {
	db, err := sql.Open("pgprod", "")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	if err := db.Ping(); err != nil {
		log.Fatal(err)
	}

	status, err := pgprod.Status(db) // marshals to JSON
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("size %d, overflow up to %d, checked out %d, idle %d, timeouts %d\n",
		status.PoolSize, status.MaxOverflow, status.CheckedOut, status.CheckedIn, status.Timeouts)
	// Output: size 20, overflow up to 10, checked out 0, idle 1, timeouts 0
}

// A program can look at its database when it starts, and stop or warn.
func ExampleCheck() {
	db, err := sql.Open("pgprod", "")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	health := pgprod.Check(context.Background(), db)
	if health.Status == "unhealthy" {
		log.Fatal(health.Reason)
	}
	fmt.Println(health.Status, health.Database, health.Pool.PoolSize)
	// Output: healthy connected 20
}

// One handler is both of Kubernetes' probes. Readiness looks at the database and answers 503 when it is away; liveness
// doesn't, since a restart of the program wouldn't bring it back.
func ExampleHealthHandler() {
	db, err := sql.Open("pgprod", "")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	mux := http.NewServeMux()
	mux.Handle("GET /readyz", pgprod.HealthHandler(db))
	mux.Handle("GET /livez", pgprod.HealthHandler(db))

	for _, path := range []string{"/readyz", "/livez"} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		var answer struct{ Status string }
		err := json.Unmarshal(w.Body.Bytes(), &answer)
		fmt.Println(path, w.Code, answer.Status, err)
	}
	// Output:
	// /readyz 200 healthy <nil>
	// /livez 200 alive <nil>
}

// The live page belongs on a port that only you can reach. Who holds a connection for longer than leak_detection stands
// out there, with the stack of the borrower.
func ExampleDebugHandler() {
	db, err := pgprod.Open("", pgprod.WithLeakDetection(10*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	mux := http.NewServeMux()
	mux.Handle("GET /debug/pgprod", pgprod.DebugHandler(db))

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/debug/pgprod", nil))
	fmt.Println(w.Code, w.Header().Get("Content-Type"))
	// Output: 200 text/html; charset=utf-8
}

// CopyFrom is the quickest way to insert many rows; database/sql has no word for it.
func ExampleRaw() {
	db, err := sql.Open("pgprod", "")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	ctx := context.Background()
	err = pgprod.Raw(ctx, db, func(conn *pgx.Conn) error {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		defer tx.Rollback(ctx) // does nothing after Commit
		if _, err := tx.Exec(ctx, "create temporary table fruit (name text, pieces int) on commit drop"); err != nil {
			return err
		}
		n, err := tx.CopyFrom(ctx, pgx.Identifier{"fruit"}, []string{"name", "pieces"},
			pgx.CopyFromRows([][]any{{"apple", 3}, {"pear", 4}}))
		fmt.Println("rows copied:", n)
		if err != nil {
			return err
		}
		return tx.Commit(ctx)
	})
	fmt.Println(err)
	// Output:
	// rows copied: 2
	// <nil>
}

// LISTEN needs a connection of its own for as long as somebody listens; it is closed when the function returns.
func ExampleRaw_listen() {
	db, err := sql.Open("pgprod", "")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	ctx := context.Background()
	err = pgprod.Raw(ctx, db, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "listen example_orders"); err != nil {
			return err
		}
		if _, err := db.ExecContext(ctx, "notify example_orders, 'order 42'"); err != nil { // from anywhere
			return err
		}
		n, err := conn.WaitForNotification(ctx)
		if err == nil {
			fmt.Println(n.Payload)
		}
		return err
	})
	fmt.Println(err)
	// Output:
	// order 42
	// <nil>
}

// What a program sets in a struct, a config file changes where it says something.
func ExampleOptions() {
	options := pgprod.Options{
		PoolSize:    new(5),
		PoolTimeout: new(pgprod.Duration(10 * time.Second)),
		PoolPrePing: new(pgprod.PrePing("always")),
	}
	err := json.Unmarshal([]byte(`{"pool_size": 8, "command_timeout": 90}`), &options)
	if err != nil {
		log.Fatal(err)
	}
	text, err := json.Marshal(options) // pass them to WithOptions
	fmt.Println(string(text), err)
	// Output: {"pool_size":8,"pool_timeout":"10s","pool_pre_ping":"always","command_timeout":"1m30s"} <nil>
}

// The `database:` section of a config file, as YAML here; JSON does as well. Durations are 30s, 1m30s or bare seconds.
func ExampleWithOptions() {
	const configFile = `
database:
  pool_size: 5
  max_overflow: 2
  pool_timeout: 30
  pool_recycle: 1800
  pool_pre_ping: True
  server_settings:
    jit: "off"
    application_name: production_api
  command_timeout: 30
`
	var config struct{ Database pgprod.Options }
	if err := yaml.Unmarshal([]byte(configFile), &config); err != nil {
		log.Fatal(err)
	}
	db, err := pgprod.Open("", pgprod.WithOptions(config.Database))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	status, err := pgprod.Status(db)
	fmt.Println(status.PoolSize, status.MaxOverflow, err)
	// Output: 5 2 <nil>
}

// Two databases in one process, each with its own variables: DB_DSN, DB_POOL_SIZE, … and AUDIT_DSN, AUDIT_POOL_SIZE, …
func ExampleWithEnvPrefix() {
	for name, value := range map[string]string{"AUDIT_DSN": os.Getenv("DB_DSN"), "AUDIT_POOL_SIZE": "2"} {
		os.Setenv(name, value) // the deployment does this
		defer os.Unsetenv(name)
	}
	for _, prefix := range []string{"DB_", "AUDIT_"} {
		db, err := pgprod.Open("", pgprod.WithEnvPrefix(prefix))
		if err != nil {
			log.Fatal(err)
		}
		defer db.Close()
		status, err := pgprod.Status(db)
		fmt.Println(status.PoolSize, err)
	}
	// Output:
	// 20 <nil>
	// 2 <nil>
}

// A cloud's tokens last for minutes, so a function gets a new one for each dial: of the AWS SDK it would be
// auth.BuildAuthToken.
func ExampleWithPasswordFunc() {
	dsn, token := account() // the DSN has no password
	db, err := pgprod.Open(dsn, pgprod.WithPasswordFunc(func(context.Context) (string, error) {
		fmt.Println("a token, please")
		return token, nil
	}))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	fmt.Println(db.Ping())
	// Output:
	// a token, please
	// <nil>
}

// Vault makes a role for an hour, and drops it afterwards. The function is asked for another one after forty minutes, and
// connections move there one after the other.
func ExampleWithCredentials() {
	dsn, password := account() // the DSN has no password
	db, err := pgprod.Open(dsn, pgprod.WithCredentials(func(context.Context) (pgprod.Credentials, error) {
		fmt.Println("a lease, please")
		return pgprod.Credentials{User: "postgres", Password: password, Expires: time.Now().Add(time.Hour)}, nil
	}))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	fmt.Println(db.Ping())
	// Output:
	// a lease, please
	// <nil>
}

// What a procedure reports by RAISE NOTICE reaches the program while the procedure is under way.
func ExampleWithNoticeHandler() {
	db, err := pgprod.Open("", pgprod.WithNoticeHandler(func(n *pgconn.Notice) {
		fmt.Println(n.Severity, n.Message)
	}))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	if _, err := db.Exec("do $$ begin raise notice 'half of the rows are done'; end $$"); err != nil {
		log.Fatal(err)
	}
	// Output: NOTICE half of the rows are done
}

// Types that are registered on each connection serve arguments and results of every statement.
func ExampleWithAfterConnect() {
	migrations, err := pgprod.Open("")
	if err != nil {
		log.Fatal(err)
	}
	defer migrations.Close()
	if _, err := migrations.Exec("drop type if exists example_mood; create type example_mood as enum ('sad', 'happy')"); err != nil {
		log.Fatal(err)
	}

	db, err := pgprod.Open("", pgprod.WithAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		types, err := conn.LoadTypes(ctx, []string{"example_mood", "_example_mood"})
		if err == nil {
			conn.TypeMap().RegisterTypes(types)
		}
		return err
	}))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	var sad bool
	if err := db.QueryRow("select 'sad' = any($1::example_mood[])", []string{"happy", "sad"}).Scan(&sad); err != nil {
		log.Fatal(err)
	}
	fmt.Println(sad)
	// Output: true
}

// A mounted secret: write another password into the file, and the next dial uses it.
func ExampleWithPasswordFile() {
	dsn, password := account() // the DSN has no password
	secret, err := os.CreateTemp("", "secret")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(secret.Name())
	if _, err := secret.WriteString(password); err != nil {
		log.Fatal(err)
	}
	defer secret.Close()

	db, err := pgprod.Open(dsn, pgprod.WithPasswordFile(secret.Name()))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	fmt.Println(db.Ping())
	// Output: <nil>
}

// Connections that live for a short time follow a load balancer whose targets change.
func ExampleWithPoolRecycle() {
	db, err := pgprod.Open("",
		pgprod.WithPoolRecycle(5*time.Minute),
		pgprod.WithPoolIdleTimeout(time.Minute), // less than the load balancer's own
		pgprod.WithPoolPrePing("always"),        // one more round trip for each borrow
		pgprod.WithConnectTimeout(3*time.Second),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	fmt.Println(db.Ping())
	// Output: <nil>
}

// PgBouncer refuses most settings at the start of a connection. In session pooling they can be made after it.
func ExampleWithServerSettingsMode() {
	db, err := pgprod.Open("",
		pgprod.WithServerSettings(map[string]string{"work_mem": "64MB"}),
		pgprod.WithServerSettingsMode(pgprod.ServerSettingsSet),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	var memory string
	err = db.QueryRow("show work_mem").Scan(&memory)
	fmt.Println(memory, err)
	// Output: 64MB <nil>
}

// Functions may leave settings in a session that no statement shows. With always the next borrower doesn't see those either.
func ExampleWithPoolReset() {
	db, err := pgprod.Open("", pgprod.WithPoolReset(pgprod.PoolResetAlways), pgprod.WithPoolSize(1), pgprod.WithMaxOverflow(0))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{
		"create or replace function example_login(name text) returns text language sql as $$ select set_config('app.user', name, false) $$",
		"select example_login('alice')", // on the pool's only connection, which it gives back
	} {
		if _, err := db.Exec(statement); err != nil {
			log.Fatal(err)
		}
	}

	var user string
	err = db.QueryRow("select current_setting('app.user', true)").Scan(&user)
	fmt.Printf("%q %v\n", user, err)
	// Output: "" <nil>
}

// By default BEGIN travels with the transaction's first statement. With eager it is sent when the application begins the
// transaction, so that what the server has against it is the error of Begin, and not of the first statement.
func ExampleWithBegin() {
	db, err := pgprod.Open("", pgprod.WithBegin(pgprod.BeginEager), pgprod.WithPoolSize(1))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	tx, err := db.Begin()
	if err != nil {
		log.Fatal(err)
	}
	defer tx.Rollback()

	var state string
	err = db.QueryRow("select state from pg_stat_activity where query = 'begin' and datname = current_database()").Scan(&state)
	fmt.Println(state, err)
	// Output: idle in transaction <nil>
}

// The pools of many instances spread over the hosts.
func ExampleWithLoadBalanceHosts() {
	_, err := pgprod.Open("host=a,b,c sslmode=disable", pgprod.WithLoadBalanceHosts("shuffle"))
	fmt.Println(err)
	// Output: pgprod: option WithLoadBalanceHosts: must be disable or random
}

// A host in the same rack is given up sooner.
func ExampleWithDeadAfter() {
	db, err := pgprod.Open("", pgprod.WithDeadAfter(300*time.Millisecond))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	var n int
	err = db.QueryRow("select 1").Scan(&n)
	fmt.Println(n, err)
	// Output: 1 <nil>
}

// Keys of TxOnce are kept in a table of another schema.
func ExampleWithOnceTable() {
	db, err := pgprod.Open("", pgprod.WithOnceTable("example_nowhere.done"))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	err = pgprod.InTx(context.Background(), db, func(tx *sql.Tx) error {
		_, err := tx.Exec("select 1")
		return err
	}, pgprod.TxOnce("m1"))
	fmt.Println(strings.HasSuffix(err.Error(), "CREATE TABLE IF NOT EXISTS example_nowhere.done"+
		" (key text PRIMARY KEY, token uuid NOT NULL, done_at timestamptz NOT NULL DEFAULT now())"))
	// Output: true
}

// The server knows the trace of each statement that is sampled: pg_stat_activity and log_line_prefix (%a) have it.
func ExampleWithTraceContext() {
	provider := sdktrace.NewTracerProvider()
	db, err := pgprod.Open("", pgprod.WithTraceContext(pgprod.TraceContextApplicationName), pgprod.WithTracerProvider(provider))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	ctx, span := provider.Tracer("shop").Start(context.Background(), "GET /cart")
	defer span.End()
	var name string
	err = db.QueryRowContext(ctx, "select current_setting('application_name') where $1", true).Scan(&name)
	fmt.Println(len(name), strings.Contains(name, span.SpanContext().TraceID().String()), err)
	// Output: 55 true <nil>
}

// Row-level security asks for a setting, which each statement under the context has: here the tenant of a request.
func ExampleContextWithSettings() {
	db, err := pgprod.Open("")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	ctx := pgprod.ContextWithSettings(context.Background(), map[string]string{"app.tenant": "acme"})
	for _, ctx := range []context.Context{ctx, context.Background()} {
		var tenant string
		err = db.QueryRowContext(ctx, "select coalesce(current_setting('app.tenant', true), '') where $1", true).Scan(&tenant)
		fmt.Printf("%q %v\n", tenant, err)
	}
	// Output:
	// "acme" <nil>
	// "" <nil>
}

// Maintenance may take longer than the pool's command_timeout.
func ExampleContextWithCommandTimeout() {
	db, err := pgprod.Open("", pgprod.WithCommandTimeout(5*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	ctx := pgprod.ContextWithCommandTimeout(context.Background(), 10*time.Minute)
	_, err = db.ExecContext(ctx, "vacuum (analyze) pg_class")
	fmt.Println(err)
	// Output: <nil>
}

// A statement that takes longer than slow_query is logged, without the values in it.
func ExampleWithLogger() {
	db, err := pgprod.Open("",
		pgprod.WithLogger(logger(os.Stdout)),
		pgprod.WithPoolName("shop"),
		pgprod.WithSlowQuery(100*time.Millisecond),
		pgprod.WithPreflight(false), // no look at the server's settings in the background
	)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	if err := db.Ping(); err != nil { // a statement's time doesn't include the dial's
		log.Fatal(err)
	}
	if _, err := db.Exec("select pg_sleep(0.1), 'secret'"); err != nil {
		log.Fatal(err)
	}
	// Output: level=WARN msg="pgprod: slow statement" pool=shop db.query.summary=select statement="select pg_sleep('?'), '?'" rows=1
}

// What happens for one statement.
func ExampleWithEchoPool() {
	db, err := pgprod.Open("",
		pgprod.WithEcho(true), pgprod.WithEchoPool(true), pgprod.WithSlowQuery(0),
		pgprod.WithLogger(logger(os.Stdout)), pgprod.WithPoolName("shop"), pgprod.WithPreflight(false),
	)
	if err != nil {
		log.Fatal(err)
	}
	_, err = db.Exec("select 'secret', $1::int", 7)
	fmt.Println(err, db.Close())
	// Output:
	// level=INFO msg="pgprod: connect" pool=shop
	// level=INFO msg="pgprod: checkout" pool=shop
	// level=INFO msg="pgprod: statement" pool=shop statement="select '?', $1::int" rows=1
	// level=INFO msg="pgprod: checkin" pool=shop
	// level=INFO msg="pgprod: close: the pool is closed" pool=shop reason=closed
	// <nil> <nil>
}

// On a developer's machine all statements and all events of the pool are logged. Each can be turned off alone.
func ExampleWithEnvironment() {
	db, err := pgprod.Open("",
		pgprod.WithEnvironment(pgprod.Development), pgprod.WithEchoPool(false), pgprod.WithSlowQuery(0),
		pgprod.WithLogger(logger(os.Stdout)), pgprod.WithPoolName("shop"), pgprod.WithPreflight(false),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	if _, err := db.Exec("select 'secret', $1::int", 7); err != nil {
		log.Fatal(err)
	}
	// Output: level=INFO msg="pgprod: statement" pool=shop statement="select '?', $1::int" rows=1
}

// Without this option spans go to the global provider. Each statement has one, below the caller's.
func ExampleWithTracerProvider() {
	recorder := tracetest.NewSpanRecorder() // in place of an exporter
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	db, err := pgprod.Open("", pgprod.WithTracerProvider(provider))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	if err := db.Ping(); err != nil {
		log.Fatal(err)
	}
	recorder.Reset() // without the span of the first connection

	if _, err := db.Exec("SELECT oid FROM pg_class WHERE relname = $1", "pg_class"); err != nil {
		log.Fatal(err)
	}
	for _, span := range recorder.Ended() {
		fmt.Println(span.Name())
	}
	// Output:
	// PREPARE SELECT pg_class
	// SELECT pg_class
}

// A job in the background that runs a statement each second may not want a trace for each.
func ExampleWithRootSpans() {
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	db, err := pgprod.Open("", pgprod.WithTracerProvider(provider), pgprod.WithRootSpans(false))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	_, err = db.ExecContext(context.Background(), "select 1") // no span in the context
	fmt.Println(len(recorder.Ended()), err)
	// Output: 0 <nil>
}

// Without this option metrics go to the global provider.
func ExampleWithMeterProvider() {
	reader := sdkmetric.NewManualReader() // in place of an exporter
	db, err := pgprod.Open("", pgprod.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	var all metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &all); err != nil {
		log.Fatal(err)
	}
	for _, m := range all.ScopeMetrics[0].Metrics {
		if sum, ok := m.Data.(metricdata.Sum[int64]); ok && m.Name == "db.client.connection.limit" {
			fmt.Println(m.Name, sum.DataPoints[0].Value, m.Unit)
		}
	}
	// Output: db.client.connection.limit 30 {connection}
}

// The server's log and pg_stat_activity tell the route that a statement came from.
func ExampleWithSQLCommenter() {
	type route struct{} // what a middleware leaves in the request's context
	tags := func(ctx context.Context) map[string]string {
		name, _ := ctx.Value(route{}).(string)
		return map[string]string{"route": name}
	}
	db, err := pgprod.Open("", pgprod.WithSQLCommenter(pgprod.SQLCommenterStatic, tags),
		pgprod.WithServerSettings(map[string]string{"application_name": "shop"}))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	var query string
	ctx := context.WithValue(context.Background(), route{}, "/cart")
	err = db.QueryRowContext(ctx, "select query from pg_stat_activity where pid = pg_backend_pid()").Scan(&query)
	fmt.Println(query, err)
	// Output:
	// select query from pg_stat_activity where pid = pg_backend_pid()
	// /*application='shop',route='%2Fcart'*/ <nil>
}

// A caller that gets no connection within pool_timeout is told so, and can answer 503 rather than 500.
func ExampleWithPoolTimeout() {
	db, err := pgprod.Open("", pgprod.WithPoolSize(1), pgprod.WithMaxOverflow(0), pgprod.WithPoolTimeout(time.Second))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	tx, err := db.Begin() // has the only connection
	if err != nil {
		log.Fatal(err)
	}
	defer tx.Rollback()

	_, err = db.Exec("select 1")
	fmt.Println(errors.Is(err, pgprod.ErrPoolTimeout))
	// Output: true
}

// InTx commits if the function returns nil, and calls it again when the server gave the transaction up in favour of
// another.
func ExampleInTx() {
	db, err := sql.Open("pgprod", "")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	tries := 0
	ctx := context.Background()
	err = pgprod.InTx(ctx, db, func(tx *sql.Tx) error {
		tries++
		statement := "select 1"
		if tries == 1 { // as if another transaction had come first
			statement = "do 'begin raise serialization_failure; end'"
		}
		_, err := tx.ExecContext(ctx, statement)
		return err
	})
	fmt.Println(tries, err)
	// Output: 2 <nil>
}

// An error that the function returns rolls the transaction back, and comes out as it is.
func ExampleInTx_rollback() {
	db, err := sql.Open("pgprod", "")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	errSoldOut := errors.New("sold out")
	err = pgprod.InTx(context.Background(), db, func(tx *sql.Tx) error {
		if _, err := tx.Exec("create table example_basket (fruit text)"); err != nil {
			return err
		}
		return errSoldOut
	})
	fmt.Println(err == errSoldOut)

	var there bool
	err = db.QueryRow("select to_regclass('example_basket') is not null").Scan(&there)
	fmt.Println(there, err)
	// Output:
	// true
	// false <nil>
}

// A queue that redelivers its messages: each is booked exactly once, by its number.
func ExampleTxOnce() {
	db, err := pgprod.Open("", pgprod.WithOnceTable("example_booked")) // by default it is pgprod_once
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	const table = `CREATE TABLE IF NOT EXISTS example_booked (
		key text PRIMARY KEY, token uuid NOT NULL, done_at timestamptz NOT NULL DEFAULT now())`
	if _, err := db.Exec(table + "; create table if not exists example_bookings (amount int)"); err != nil {
		log.Fatal(err)
	}
	defer db.Exec("drop table example_booked, example_bookings")

	ctx := context.Background()
	for _, message := range []struct {
		id     string
		amount int
	}{{"m1", 5}, {"m2", 7}, {"m1", 5}} {
		err := pgprod.InTx(ctx, db, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "insert into example_bookings values ($1)", message.amount)
			return err
		}, pgprod.TxOnce(message.id))
		switch {
		case errors.Is(err, pgprod.ErrAlreadyDone):
			fmt.Println(message.id, "was booked before")
		case err != nil:
			fmt.Println(message.id, "stays in the queue:", err)
		default:
			fmt.Println(message.id, "is booked")
		}
	}
	// Output:
	// m1 is booked
	// m2 is booked
	// m1 was booked before
}

// Once a day, keys that nobody will try again are deleted. Here they are in a table of another name.
func ExampleForgetOnce() {
	db, err := pgprod.Open("", pgprod.WithOnceTable("example_done"))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	const table = `CREATE TABLE IF NOT EXISTS example_done (
		key text PRIMARY KEY, token uuid NOT NULL, done_at timestamptz NOT NULL DEFAULT now())`
	if _, err := db.Exec(table); err != nil {
		log.Fatal(err)
	}
	defer db.Exec("drop table example_done")

	n, err := pgprod.ForgetOnce(context.Background(), db, 30*24*time.Hour)
	fmt.Println(n, err)
	// Output: 0 <nil>
}

// A test that holds a budget: however many items a cart has, it is loaded by two statements.
func ExampleContextCounting() {
	db, err := sql.Open("pgprod", "")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	loadCart := func(ctx context.Context) error {
		var owner, items string
		if err := db.QueryRowContext(ctx, "SELECT min(rolname) FROM pg_roles").Scan(&owner); err != nil {
			return err
		}
		return db.QueryRowContext(ctx, "SELECT string_agg(relname, ' ') FROM pg_class WHERE relkind = $1", "i").Scan(&items)
	}

	ctx, count := pgprod.ContextCounting(context.Background())
	if err := loadCart(ctx); err != nil {
		log.Fatal(err)
	}
	if count.Total() > 2 {
		fmt.Println("over the budget:", count) // t.Errorf
	}
	fmt.Println(count.BySummary()["SELECT pg_class"], "of", count)
	// Output: 1 of 2 statements: 1 × SELECT pg_class, 1 × SELECT pg_roles
}

// A handler that loads the items of its orders one by one, as a test sees it.
func ExampleStatementCount() {
	db, err := sql.Open("pgprod", "")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	ctx, count := pgprod.ContextCounting(context.Background())
	err = pgprod.InTx(ctx, db, func(tx *sql.Tx) error {
		for n := range 3 {
			if _, err := tx.Exec("SELECT relname FROM pg_class WHERE oid = $1", n); err != nil {
				return err
			}
		}
		return nil
	})
	fmt.Println(count, err)
	// Output: 3 statements: 3 × SELECT pg_class <nil>
}

// To set a state twice does no harm, so the loss of the connection is no error.
func ExampleContextRepeatable() {
	db, err := sql.Open("pgprod", "")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	ctx := pgprod.ContextRepeatable(context.Background())
	var state string
	err = db.QueryRowContext(ctx, "select 'shipped' where $1", true).Scan(&state)
	fmt.Println(state, err)
	// Output: shipped <nil>
}

// A report that has to see one state of the data, changes nothing, and may be repeated twice.
func ExampleTxOption() {
	db, err := sql.Open("pgprod", "")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	var isolation, readOnly string
	err = pgprod.InTx(context.Background(), db, func(tx *sql.Tx) error {
		return tx.QueryRow("select current_setting('transaction_isolation'), current_setting('transaction_read_only')").
			Scan(&isolation, &readOnly)
	}, pgprod.TxIsolation(sql.LevelRepeatableRead), pgprod.TxReadOnly(), pgprod.TxRetries(2))
	fmt.Println(isolation, readOnly, err)
	// Output: repeatable read on <nil>
}

// With the mode full, a statement carries the trace of its caller to the server's log.
func ExampleWithPropagator() {
	db, err := pgprod.Open("",
		pgprod.WithSQLCommenter(pgprod.SQLCommenterFull, nil), pgprod.WithPropagator(propagation.TraceContext{}),
		pgprod.WithServerSettings(map[string]string{"application_name": "shop"}),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	ctx := trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{ // a request's
		TraceID: trace.TraceID{15: 1}, SpanID: trace.SpanID{7: 2}, TraceFlags: trace.FlagsSampled,
	}))

	var query string
	err = db.QueryRowContext(ctx, "select query from pg_stat_activity where pid = pg_backend_pid()").Scan(&query)
	fmt.Println(query, err)
	// Output:
	// select query from pg_stat_activity where pid = pg_backend_pid()
	// /*application='shop',traceparent='00-00000000000000000000000000000001-0000000000000002-01'*/ <nil>
}

// Where a Commit's reply is lost, only a look at the data tells whether the transaction took place.
func Example_commitUnknown() {
	db, err := sql.Open("pgprod", "")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	tx, err := db.Begin()
	if err != nil {
		log.Fatal(err)
	}
	defer tx.Rollback() // does nothing after Commit
	// … insert an order, under a number that the program has chosen …

	switch err := tx.Commit(); {
	case errors.Is(err, pgprod.ErrCommitUnknown):
		fmt.Println("look for the order's number before trying again")
	case err != nil:
		fmt.Println("not committed, safe to try again:", err)
	default:
		fmt.Println("committed")
	}
	// Output: committed
}

// A profile is a size, an overflow, a wait and an age; each may still be set by itself.
func ExampleWithProfile() {
	db := mustOpen(pgprod.WithProfile("large"), pgprod.WithMaxOverflow(5))
	defer db.Close()

	status := statusOf(db)
	fmt.Println(status.PoolSize, status.MaxOverflow)
	// Output: 50 5
}

func ExampleWithPoolSize() {
	db := mustOpen(pgprod.WithPoolSize(5))
	defer db.Close()

	fmt.Println(statusOf(db).PoolSize)
	_, err := pgprod.Open("", pgprod.WithPoolSize(0))
	fmt.Println(err)
	// Output:
	// 5
	// pgprod: option WithPoolSize: must be a whole number of at least 1
}

// Two transactions at once need an overflow here; its connection is closed when it is given back.
func ExampleWithMaxOverflow() {
	db := mustOpen(pgprod.WithPoolSize(1), pgprod.WithMaxOverflow(1))
	defer db.Close()
	for range 2 {
		tx, err := db.Begin()
		if err != nil {
			log.Fatal(err)
		}
		defer tx.Rollback()
	}

	status := statusOf(db)
	fmt.Println("in use:", status.CheckedOut, "overflow:", status.Overflow)
	// Output: in use: 2 overflow: 1
}

// Less than what a firewall or a load balancer allows, so that it is the pool that closes idle connections.
func ExampleWithPoolIdleTimeout() {
	db := mustOpen(pgprod.WithPoolIdleTimeout(200 * time.Millisecond))
	defer db.Close()
	if err := db.Ping(); err != nil {
		log.Fatal(err)
	}
	for statusOf(db).CheckedIn > 0 { // they are looked at once a second
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Println("closed because idle:", statusOf(db).Closed["idle"])
	// Output: closed because idle: 1
}

// Connections that are there before a burst of requests needs them. Nothing is dialled before the first use.
func ExampleWithPoolMin() {
	db := mustOpen(pgprod.WithPoolMin(3))
	defer db.Close()
	if err := db.Ping(); err != nil {
		log.Fatal(err)
	}
	for statusOf(db).CheckedIn < 3 { // nobody has to wait for them
		time.Sleep(10 * time.Millisecond)
	}

	_, err := pgprod.Open("", pgprod.WithPoolSize(2), pgprod.WithPoolMin(3))
	fmt.Println(err)
	// Output: pgprod: option WithPoolMin: must be at most pool_size, which is 2
}

func ExampleWithPoolPrePing() {
	db := mustOpen(pgprod.WithPoolPrePing(pgprod.PrePingAlways)) // one more round trip for each borrow
	defer db.Close()
	fmt.Println(db.Ping())

	_, err := pgprod.Open("", pgprod.WithPoolPrePing("sometimes"))
	fmt.Println(err)
	// Output:
	// <nil>
	// pgprod: option WithPoolPrePing: must be auto, always or off
}

// Names are unique in a process, so that metrics of two pools aren't summed.
func ExampleWithPoolName() {
	for range 2 {
		db := mustOpen(pgprod.WithPoolName("stock"))
		defer db.Close()
		fmt.Println(statusOf(db).PoolName)
	}
	// Output:
	// stock
	// stock#2
}

func ExampleWithEcho() {
	db := mustOpen(pgprod.WithEcho(true), pgprod.WithSlowQuery(0),
		pgprod.WithLogger(logger(os.Stdout)), pgprod.WithPoolName("shop"), pgprod.WithPreflight(false))
	defer db.Close()

	if _, err := db.Exec("select 'secret', $1::int", 7); err != nil {
		log.Fatal(err)
	}
	// Output: level=INFO msg="pgprod: statement" pool=shop statement="select '?', $1::int" rows=1
}

func ExampleWithSlowQuery() {
	logged := make(lines, 10)
	db := mustOpen(pgprod.WithSlowQuery(50*time.Millisecond),
		pgprod.WithLogger(logger(logged)), pgprod.WithPoolName("shop"), pgprod.WithPreflight(false))
	defer db.Close()

	if err := db.Ping(); err != nil { // a statement's time doesn't include the dial's
		log.Fatal(err)
	}
	if _, err := db.Exec("select pg_sleep(0.05)"); err != nil {
		log.Fatal(err)
	}
	fmt.Print(<-logged)
	// Output: level=WARN msg="pgprod: slow statement" pool=shop db.query.summary=select statement="select pg_sleep('?')" rows=1
}

// The live page has the plan of a statement that was slow. It is asked for in the background.
func ExampleWithSlowQueryPlan() {
	db := mustOpen(pgprod.WithSlowQueryPlan(true), pgprod.WithSlowQuery(time.Millisecond), pgprod.WithPreflight(false))
	defer db.Close()
	page := pgprod.DebugHandler(db)

	if _, err := db.Exec("select pg_sleep(0.01)"); err != nil {
		log.Fatal(err)
	}
	answer := httptest.NewRecorder()
	page.ServeHTTP(answer, httptest.NewRequest("GET", "/debug/pgprod?format=json", nil))
	fmt.Println(strings.Contains(answer.Body.String(), `"plan":`))
	// Output: true
}

// Who holds a connection for long is logged, with the stack of the borrower.
func ExampleWithLeakDetection() {
	logged := make(lines, 10)
	db := mustOpen(pgprod.WithLeakDetection(500*time.Millisecond), pgprod.WithPreflight(false),
		pgprod.WithLogger(logger(logged)), pgprod.WithPoolName("shop"))
	defer db.Close()
	tx, err := db.Begin()
	if err != nil {
		log.Fatal(err)
	}

	fmt.Print(<-logged)
	fmt.Println(tx.Rollback())
	// Output:
	// level=WARN msg="pgprod: a connection is held for long: close rows, end transactions, close *sql.Conns" pool=shop db.query.summary=begin running=false hint="a statement for the *sql.DB within this one's rows or transaction waits for it for ever, in database/sql, if SetMaxOpenConns leaves no room for a second connection"
	// <nil>
}

// Without a preflight nothing is said of the role, the limits and the settings of the server.
func ExampleWithPreflight() {
	db := mustOpen(pgprod.WithPreflight(false))
	defer db.Close()

	health := pgprod.Check(context.Background(), db)
	fmt.Println(health.Status, health.Warnings)
	// Output: healthy []
}

// They are merged over the defaults by name; an empty value leaves the setting to the server.
func ExampleWithServerSettings() {
	db := mustOpen(pgprod.WithServerSettings(map[string]string{"work_mem": "64MB", "random_page_cost": "2"}))
	defer db.Close()

	fmt.Println(show(db, "work_mem"), show(db, "random_page_cost"), show(db, "jit"))
	// Output: 64MB 2 off
}

// The statement is cancelled on the server, and its connection lives on.
func ExampleWithCommandTimeout() {
	db := mustOpen(pgprod.WithCommandTimeout(50 * time.Millisecond))
	defer db.Close()

	_, err := db.Exec("select pg_sleep(60)")
	fmt.Println(errors.Is(err, context.DeadlineExceeded), statusOf(db).CheckedIn)
	// Output: true 1
}

// A dial is repeated as long as somebody waits, so that its own limit may be short. There is always one.
func ExampleWithConnectTimeout() {
	db := mustOpen(pgprod.WithConnectTimeout(3 * time.Second))
	defer db.Close()
	fmt.Println(db.Ping())

	_, err := pgprod.Open("", pgprod.WithConnectTimeout(0))
	fmt.Println(err)
	// Output:
	// <nil>
	// pgprod: option WithConnectTimeout: must be a duration above 0, such as 5s or bare seconds: a dial must be bounded
}

func ExampleTxIsolation() {
	db := mustOpen()
	defer db.Close()

	err := pgprod.InTx(context.Background(), db, func(tx *sql.Tx) error {
		fmt.Println(show(tx, "transaction_isolation"))
		return nil
	}, pgprod.TxIsolation(sql.LevelSerializable))
	fmt.Println(err)
	// Output:
	// serializable
	// <nil>
}

func ExampleTxReadOnly() {
	db := mustOpen()
	defer db.Close()

	err := pgprod.InTx(context.Background(), db, func(tx *sql.Tx) error {
		_, err := tx.Exec("create table example_basket (fruit text)")
		return err
	}, pgprod.TxReadOnly())
	fmt.Println(err)
	// Output: ERROR: cannot execute CREATE TABLE in a read-only transaction (SQLSTATE 25006)
}

func ExampleTxRetries() {
	db := mustOpen()
	defer db.Close()

	tries := 0
	err := pgprod.InTx(context.Background(), db, func(tx *sql.Tx) error {
		tries++
		_, err := tx.Exec("do 'begin raise serialization_failure; end'") // as if another always came first
		return err
	}, pgprod.TxRetries(2))
	fmt.Println(tries, err != nil)
	// Output: 3 true
}

// After ALTER ROLE … SET, which only new sessions heed. No statement fails, and nobody waits for the others.
func ExampleRecycle() {
	db, err := sql.Open("pgprod", "")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	pid := func() (pid int) {
		if err := db.QueryRow("select pg_backend_pid()").Scan(&pid); err != nil {
			log.Fatal(err)
		}
		return pid
	}
	before := pid()
	if err := pgprod.Recycle(db); err != nil {
		log.Fatal(err)
	}
	fmt.Println("another connection:", pid() != before)
	// Output: another connection: true
}

// A dial function sees each address as it stands in the DSN. A connector of a cloud provider's or a tunnel takes its place.
func ExampleWithDialFunc() {
	dialer := &net.Dialer{KeepAlive: 10 * time.Second}
	db, err := pgprod.Open("", pgprod.WithDialFunc(func(ctx context.Context, network, addr string) (net.Conn, error) {
		fmt.Println("dialling over", network)
		return dialer.DialContext(ctx, network, addr)
	}))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	fmt.Println(db.Ping())
	// Output:
	// dialling over tcp
	// <nil>
}

// A configuration of pgx's stands in place of the DSN, for what neither that nor an option can say.
func ExampleWithConnConfig() {
	cfg, err := pgx.ParseConfig(os.Getenv("DB_DSN"))
	if err != nil {
		log.Fatal(err)
	}
	cfg.MaxProtocolMessageBodyLen = 64 << 20 // no row may be larger than 64 MiB
	db, err := pgprod.Open("pool_size=5", pgprod.WithConnConfig(cfg))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	fmt.Println(db.Ping())
	// Output: <nil>
}
