package diary

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/activity"
)

// said are the kinds and texts of events, the oldest first.
func said(events []activity.Event) (all []string) {
	for _, e := range slices.Backward(events) {
		all = append(all, e.Kind+": "+e.Text)
	}
	return all
}

func TestTheLifeOfAConnectionIsAnEventAndALineIfAllAreWanted(t *testing.T) {
	live := func(d *Diary) {
		d.Connected(t.Context(), 10, 1234567*time.Nanosecond, false)
		d.Connected(t.Context(), 11, time.Second, true)
		d.CheckedOut(t.Context(), 10, time.Millisecond)
		d.CheckedIn(10, time.Minute)
		d.Closed(10, "lifetime")
	}
	events := []string{
		"connect: backend 10 after 1.235ms", "overflow: backend 11 after 1s", "close: backend 10: lifetime",
	}
	info := func(message string, pid uint64, more line) line {
		l := line{"level": slog.LevelInfo, "message": message, "pool": "orders", "pid": pid}
		for k, v := range more {
			l[k] = v
		}
		return l
	}
	var log log
	d := log.open(t, Options{EchoPool: true})
	live(d)
	assert.Equal(t, events, said(d.Events()))
	assert.Equal(t, []line{
		info("pgprod: connect", 10, line{"took": 1235 * time.Microsecond}),
		info("pgprod: overflow: connected beyond pool_size", 11, line{"took": time.Second}),
		info("pgprod: checkout", 10, line{"waited": time.Millisecond}),
		info("pgprod: checkin", 10, line{"held": time.Minute}),
		info("pgprod: recycle: older than pool_recycle", 10, line{"reason": "lifetime"}),
	}, log.take())

	d = log.open(t, Options{})
	live(d)
	assert.Equal(t, events, said(d.Events()))
	assert.Empty(t, log.take())
}

func TestEachReasonForClosingAConnectionHasItsWords(t *testing.T) {
	var log log
	d := log.open(t, Options{EchoPool: true})
	for reason := range Reasons() {
		d.Closed(1, reason)
		lines := log.take()
		require.Len(t, lines, 1)
		assert.NotEqual(t, "pgprod: ", lines[0]["message"], reason)
	}
}

func TestACallerWithoutAConnectionIsAnErrorAndALine(t *testing.T) {
	var log log
	d := log.open(t, Options{})
	d.Unserved(t.Context(), Failure{Type: "timeout", Sort: "timeout", Text: "waited 30s"}, 30*time.Second)
	assert.Equal(t, []string{"no connection: waited 30s"}, said(d.Errors()))
	assert.Equal(t, []line{{
		"level": slog.LevelError, "message": "pgprod: a caller got no connection", "pool": "orders",
		"error.type": "timeout", "error_message": "waited 30s", "waited": 30 * time.Second,
	}}, log.take())
}

func TestALeakIsToldByItsBorrowerAndSoIsItsEnd(t *testing.T) {
	var log log
	d := log.open(t, Options{})
	l := Leak{
		PID: 10, Held: 61234567 * time.Microsecond, Summary: "SELECT orders",
		Borrower: []string{"main.report report.go:7", "main.main main.go:3"}, WaitsForItself: true,
	}
	d.LeakFound(l)
	d.LeakBack(l)
	assert.Equal(t, []string{"leak: held for 1m1.235s (SELECT orders) by main.report report.go:7"}, said(d.Events()))
	held := 61235 * time.Millisecond
	assert.Equal(t, []line{{
		"level": slog.LevelWarn, "message": "pgprod: a connection is held for long: close rows, end transactions, close *sql.Conns",
		"pool": "orders", "held": held, "db.query.summary": "SELECT orders", "running": false, "hint": waitsForItself, "pid": uint64(10),
		"stack": l.Borrower,
	}, {
		"level": slog.LevelInfo, "message": "pgprod: a connection that was held for long came back",
		"pool": "orders", "held": held, "db.query.summary": "SELECT orders", "borrower": l.Borrower[0], "pid": uint64(10),
	}}, log.take())
}

func TestALeakWithoutAStackIsToldByItsStatement(t *testing.T) {
	var log log
	d := log.open(t, Options{Echo: true})
	for range 10 {
		d.LeakFound(Leak{Summary: "SELECT orders", Running: true, RowsOpen: true})
	}
	lines := log.take()
	require.Len(t, lines, 3, "Echo is for statements")
	assert.Equal(t, []string{stackNotTaken}, lines[0]["stack"])
	assert.Equal(t, true, lines[0]["rows_open"])
	assert.NotContains(t, lines[0], "hint")
	assert.Equal(t, []string{"leak: held for 0s (SELECT orders) by SELECT orders"}, said(d.Events()))
	d.LeakBack(Leak{Summary: "SELECT orders"})
	assert.NotContains(t, log.take()[0], "borrower")
}
