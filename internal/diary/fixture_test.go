package diary

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// log is a slog.Handler that keeps the lines it is given.
type log struct {
	level   slog.Level           // from which on it takes lines
	handled func(message string) // is called for each line; nil: nothing is

	mu    sync.Mutex // guards lines
	lines []line
}

var _ slog.Handler = (*log)(nil)

// line is a line of log: its attributes, and level and message besides.
type line map[string]any

func (l *log) Enabled(_ context.Context, level slog.Level) bool { return level >= l.level }
func (l *log) WithAttrs([]slog.Attr) slog.Handler               { panic("not used") }
func (l *log) WithGroup(string) slog.Handler                    { panic("not used") }

func (l *log) Handle(_ context.Context, r slog.Record) error {
	one := line{"level": r.Level, "message": r.Message}
	r.Attrs(func(a slog.Attr) bool {
		one[a.Key] = a.Value.Any()
		return true
	})
	l.mu.Lock()
	l.lines = append(l.lines, one)
	l.mu.Unlock()
	if l.handled != nil {
		l.handled(r.Message)
	}
	return nil
}

// take returns the lines since it was last called.
func (l *log) take() (lines []line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines, l.lines = l.lines, nil
	return lines
}

// open returns a diary that logs to l and is closed at the end of the test.
func (l *log) open(t testing.TB, o Options) *Diary {
	o.Pool, o.Logger = "orders", slog.New(l)
	d := New(o)
	t.Cleanup(d.Close)
	return d
}

// named is a statement that counts how often it is asked what it is.
type named struct {
	summary string
	asked   int
	rows    int64
}

func (n *named) Summary() string { n.asked++; return n.summary }
func (n *named) Text() string    { n.asked++; return n.summary + " where id = ?" }
func (n *named) Rows() int64     { n.asked++; return n.rows }

func ended(took time.Duration) Statement {
	return Statement{Named: &named{summary: "SELECT orders", rows: 7}, Took: took}
}

func failing(e StatementError) Statement {
	s := ended(time.Second)
	s.Named, s.Error = &named{summary: "SELECT orders"}, &e
	return s
}

// everything has each of the diary's methods called that notes something.
func everything(ctx context.Context, d *Diary) {
	f := Failure{Type: "timeout", Sort: "timeout", Text: "refused"}
	d.Connected(ctx, 1, time.Second, false)
	d.Connected(ctx, 1, time.Second, true)
	d.Closed(1, "idle")
	d.CheckedOut(ctx, 1, time.Second)
	d.CheckedIn(1, time.Second)
	d.Unserved(ctx, f, time.Second)
	d.LeakFound(Leak{Summary: "SELECT orders"})
	d.LeakBack(Leak{Summary: "SELECT orders"})
	d.DialFailed(ctx, f, false)
	d.DialSucceeded(ctx)
	d.Lost(f)
	d.HostDown(Host{Name: "a:5432", Role: "primary"}, f)
	d.HostUp(Host{Name: "a:5432"})
	d.HostHasRole(Host{Name: "a:5432", Role: "standby"}, "primary", false)
	d.Unhealthy(ctx, time.Now(), f)
	d.Healthy(ctx, time.Now())
	d.Settings(ctx, []string{"sslmode=disable"})
	d.Preflight(ctx, []string{"a superuser"})
	d.PreflightFailed(ctx, "permission denied")
	d.Statement(ctx, ended(0))
	d.Statement(ctx, ended(time.Hour))
	d.Statement(ctx, Statement{Named: &named{}, Waited: time.Hour})
	d.Statement(ctx, failing(StatementError{Level: slog.LevelError, Type: "42P01", SQLState: "42P01"}))
	d.Abandoned(&named{}, f)
	d.Warned("01000", &named{}, func() string { return "beware" })
	d.CommitUnknown("reply_lost", "the outcome is unknown", "connection lost")
	d.Unkept("set a = ?", "a setting", "server_settings")
	_, _ = d.Errors(), d.Events()
}

// within fails the test at once if f hasn't returned after a time that is long enough for anything but a deadlock.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { // ends with f; if f hangs, with the process, which the failed test leads to
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		require.FailNow(t, "a deadlock", what)
	}
}
