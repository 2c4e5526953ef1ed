package pgtest

import (
	"context"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

const (
	// testTimeout limits each step of the helpers.
	testTimeout = time.Minute
	// leaveTimeout is how long the server may take to end a test's connections after the test has closed them.
	leaveTimeout = 10 * time.Second
	// atOnce is how many tests of a package run at once, where -parallel does not say. Go's default is one for a processor,
	// but ours wait most of their time: for servers, for one another, and for limits to pass.
	atOnce = 4
)

// shared is the server that Shared returns.
var shared struct {
	mu     sync.Mutex // guards what follows, and is held while the server starts
	tried  bool       // Shared was called, so that server or err is set
	server *Server
	err    error
}

// Main runs the tests of a package, stops the shared server and, if all passed, looks for leaked goroutines. It returns
// the exit code:
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
func Main(m *testing.M, ignore ...goleak.Option) int {
	runMoreAtOnce()
	forget := stopOnSignal()
	code := m.Run()
	forget()
	if err := stopAll(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	if code != 0 {
		return code // a test that failed may have left goroutines
	}
	if err := goleak.Find(append(ignore, IgnoreServers())...); err != nil {
		fmt.Fprintf(os.Stderr, "pgtest: goroutines leaked by this package's tests: %v\n", err)
		return 1
	}
	return 0
}

// runMoreAtOnce raises -parallel to atOnce, unless the command line has it, or fuzzes: there it is the number of processes.
func runMoreAtOnce() {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) {
		given = given || slices.Contains([]string{"test.parallel", "test.fuzz", "test.fuzzworker"}, f.Name)
	})
	if !given && runtime.GOMAXPROCS(0) < atOnce {
		_ = flag.Set("test.parallel", strconv.Itoa(atOnce)) // fails for no number
	}
}

// IgnoreServers is an option for goleak in a single test: it ignores the goroutines that wait for the end of running
// servers, such as the shared one.
func IgnoreServers() goleak.Option {
	return goleak.IgnoreAnyFunction("github.com/pgprod/pgprod/internal/pgtest.(*process).run")
}

// stopOnSignal stops all servers and exits when the user interrupts the tests, so that the servers' files don't stay until
// the next run. The function that it returns ends its goroutine.
func stopOnSignal() (forget func()) {
	signals := make(chan os.Signal, 1)
	done := make(chan struct{})
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() { // ended by forget
		select {
		case <-signals:
			_ = stopAll()
			os.Exit(130) // the exit code that shells have for a program that was interrupted
		case <-done:
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}

// Shared returns the server that all tests of this binary share. It is the one that DB_TEST_DSN names or, without
// DB_TEST_DSN, one that the first call starts. If there is none, the test fails.
func Shared(t testing.TB) *Server {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if !shared.tried {
		shared.tried = true
		shared.server, shared.err = openShared()
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server
}

// openShared attaches to the server of DB_TEST_DSN, or starts one.
func openShared() (*Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*testTimeout) // it may have to be downloaded
	defer cancel()
	if dsn := os.Getenv("DB_TEST_DSN"); dsn != "" {
		return attach(ctx, dsn)
	}
	return Start(ctx, Config{})
}

func stopAll() error {
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	return StopAll(ctx)
}

// StartTB starts a server that is stopped at the end of the test. If it can't be started, the test fails.
func StartTB(t testing.TB, cfg Config) *Server {
	t.Helper()
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// NewDatabase creates a database on the shared server and returns its URL. At the end of the test the database is dropped;
// if a connection to it is left then, the test fails.
func NewDatabase(t testing.TB) string {
	t.Helper()
	return Shared(t).NewDatabase(t)
}

// NewDatabase is the function NewDatabase for this server. The server must be running at the end of the test.
func (s *Server) NewDatabase(t testing.TB) string {
	t.Helper()
	name := databaseName(t.Name())
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	if err := s.Exec(ctx, "create database "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
		defer cancel()
		if err := s.awaitNobody(ctx, name); err != nil {
			t.Error(err)
		}
		if err := s.Exec(ctx, "drop database if exists "+name+" with (force)"); err != nil {
			t.Error(err)
		}
	})
	return s.DSN(name)
}

var (
	databases    atomic.Int64
	unfitForName = regexp.MustCompile(`[^a-z0-9]+`)
)

// databaseName returns a name for a test's database that shows the test's name, and that no other test has, here or in
// another process.
func databaseName(test string) string {
	name := strings.Trim(unfitForName.ReplaceAllString(strings.ToLower(test), "_"), "_")
	const longest = 40 // of PostgreSQL's 63, with room for the numbers
	return fmt.Sprintf("%.*s_%d_%d", longest, "t_"+name, os.Getpid(), databases.Add(1))
}

// DatabaseName returns the name of the database in a URL that NewDatabase has returned.
func DatabaseName(dsn string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		return ""
	}
	return strings.TrimPrefix(u.Path, "/")
}

// awaitNobody waits until no connection to a database is left. After leaveTimeout it returns an error that lists them.
func (s *Server) awaitNobody(ctx context.Context, database string) error {
	return s.withAdmin(ctx, func(conn *pgx.Conn) error {
		deadline := time.Now().Add(leaveTimeout)
		return poll(ctx, func() (bool, error) {
			left, err := listBackends(ctx, conn, []string{database})
			if err != nil || len(left) == 0 || time.Now().Before(deadline) {
				return len(left) == 0, err
			}
			lines := make([]string, len(left))
			for i, b := range left {
				lines[i] = b.String()
			}
			return false, fmt.Errorf("connections left open by the test:\n%s", strings.Join(lines, "\n"))
		})
	})
}

// Eventually waits until cond returns true. After timeout it fails the test with msg, a format and its arguments.
func Eventually(t testing.TB, timeout time.Duration, cond func() bool, msg ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := poll(ctx, func() (bool, error) { return cond(), nil }); err == nil {
		return
	}
	text := "condition not met"
	if len(msg) > 0 {
		text = fmt.Sprintf(fmt.Sprint(msg[0]), msg[1:]...)
	}
	t.Fatalf("after %v: %s", timeout, text)
}
