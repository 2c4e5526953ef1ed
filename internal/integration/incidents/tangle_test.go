package incidents

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// A deed is that a session waits for a row, or has it locked.
type deed struct {
	application string
	function    string // which has borrowed the connection
	pid         uint32
	row         int
	from, to    time.Time // from before the statement was sent to after the transaction's end; to is zero while it goes on
}

// during reports whether a deed may have been under way between two moments.
func (d *deed) during(from, to time.Time) bool {
	return !d.from.After(to) && (d.to.IsZero() || !d.to.Before(from))
}

// A ledger has what the sessions do. It is safe for concurrent use.
type ledger struct {
	mu    sync.Mutex // guards deeds and what is in them
	deeds []*deed
}

func (l *ledger) begin(d deed) *deed {
	l.mu.Lock()
	defer l.mu.Unlock()
	d.from = time.Now()
	l.deeds = append(l.deeds, &d)
	return &d
}

func (l *ledger) end(all []*deed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range all {
		d.to = time.Now()
	}
}

// find returns the deeds that fit, the latest last.
func (l *ledger) find(fits func(*deed) bool) (all []*deed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.deeds {
		if fits(d) {
			all = append(all, d)
		}
	}
	return all
}

// wrong says what is wrong about a cause that the page of an application's pool has shown of the session with a pid. It is
// "" if nothing is.
func (l *ledger) wrong(application string, pid uint32, c *activity.Cause) string {
	mine := l.find(func(d *deed) bool { return d.pid == pid && d.from.Before(c.At) })
	if len(mine) == 0 {
		return "the session waits for nothing"
	}
	rows, since := []*deed{mine[len(mine)-1]}, mine[len(mine)-1].from
	for _, b := range c.Chain {
		all := l.find(func(d *deed) bool { return d.pid == b.PID && d.during(since, c.At) })
		switch {
		case len(all) == 0:
			return fmt.Sprintf("pid %d does nothing", b.PID)
		case !sameRow(all, rows):
			return fmt.Sprintf("pid %d has another row", b.PID)
		case all[0].application != b.Application:
			return fmt.Sprintf("pid %d is of application %s", b.PID, all[0].application)
		case (b.Own != nil) != (b.Application == application):
			return fmt.Sprintf("pid %d is this pool's own, or not", b.PID)
		case b.Own != nil && len(b.Own.Stack) > 0 && !anyBy(all, b.Own.Borrower()):
			return fmt.Sprintf("pid %d is borrowed by another function", b.PID)
		}
		rows = all
	}
	return ""
}

// sameRow reports whether two lists of deeds have a row in common.
func sameRow(a, b []*deed) bool {
	for _, one := range a {
		for _, other := range b {
			if one.row == other.row {
				return true
			}
		}
	}
	return false
}

// anyBy reports whether the function at the beginning of a frame has done one of the deeds.
func anyBy(all []*deed, frame string) bool {
	for _, d := range all {
		if strings.HasPrefix(frame, "incidents."+d.function+" ") {
			return true
		}
	}
	return false
}

// morning and evening borrow connections, and can be told apart by that.
func morning(ctx context.Context, db *sql.DB) (*sql.Tx, error) { return db.BeginTx(ctx, nil) }
func evening(ctx context.Context, db *sql.DB) (*sql.Tx, error) { return db.BeginTx(ctx, nil) }

// work has transactions lock rows at random until the context ends, each two of them in their order.
func (l *ledger) work(ctx context.Context, application string, db *sql.DB) {
	for ctx.Err() == nil {
		borrow, function := morning, "morning"
		if rand.IntN(2) == 0 {
			borrow, function = evening, "evening"
		}
		if tx, err := borrow(ctx, db); err == nil {
			l.transaction(ctx, tx, deed{application: application, function: function})
		}
	}
}

// transaction locks two rows and goes on to hold them for a moment. Errors are those of the end.
func (l *ledger) transaction(ctx context.Context, tx *sql.Tx, d deed) {
	var all []*deed
	defer func() {
		_ = tx.Rollback()
		l.end(all)
	}()
	if tx.QueryRowContext(ctx, "select pg_backend_pid()").Scan(&d.pid) != nil {
		return
	}
	first := 1 + rand.IntN(3)
	for _, d.row = range []int{first, first + 1 + rand.IntN(2)} {
		all = append(all, l.begin(d))
		_, _ = tx.ExecContext(ctx, "update accounts set n = n + 1 where id = $1", d.row)
		_, _ = tx.ExecContext(ctx, "select pg_sleep($1)", 0.02+0.1*rand.Float64())
	}
}

// TestInATangleOfLocksNobodyIsWronglyNamed has three pools and another program lock the same few rows in no order, and
// compares each blocker that is named with what that one did.
func TestInATangleOfLocksNobodyIsWronglyNamed(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	newScene(t, clients[0], dsn, dsn, 1) // for its table
	ctx, cancel := context.WithCancel(t.Context())
	var l ledger
	var wg sync.WaitGroup
	start := func(application string, db *sql.DB) {
		for range 3 {
			wg.Go(func() { l.work(ctx, application, db) })
		}
	}
	others, err := sql.Open("pgx", pgtest.With(dsn, "application_name", "billing"))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, others.Close()) })
	start("billing", others)
	tolds := map[string]*told{}
	for _, application := range []string{"shop", "stock", "mail"} {
		tolds[application] = newTold()
		start(application, clients[0].open(t, pgtest.With(dsn, "application_name", application), 3, tolds[application]))
	}
	t.Cleanup(wg.Wait) // before the pools are closed, if the test fails
	t.Cleanup(cancel)

	judged, own, longest := map[string]bool{}, 0, 0
	pgtest.Eventually(t, 5*patience, func() bool {
		for application, to := range tolds {
			for pid, cause := range to.onPage(t) {
				key := fmt.Sprint(application, pid, cause.At)
				if cause.Wait.Type != "Lock" || judged[key] {
					continue
				}
				judged[key] = true
				longest = max(longest, len(cause.Chain))
				if strings.Contains(cause.String(), "held since") {
					own++
				}
				assert.Empty(t, l.wrong(application, pid, cause), "%v", cause)
			}
		}
		return len(judged) >= 40**rounds && own > 0
	}, "too few causes")
	cancel()
	wg.Wait()
	t.Logf("%d causes, %d name a borrower, the longest chain has %d", len(judged), own, longest)
}
