package link

import (
	"sync"

	"go.opentelemetry.io/otel/trace"

	"github.com/pgprod/pgprod/internal/activity"
)

// doing is the statement under way or the last one of the present borrower's, for other goroutines to look at.
type doing struct {
	mu        sync.Mutex      // guards what follows; nothing else is locked under it
	kind, sql string          // as in Statement; both "": there was none yet
	began     int64           // by package clock: when it began; 0: what is under way since then is no statement
	cause     *activity.Cause // what it was found to wait for; nil: not known
	trace     trace.TraceID   // of its span; zero: it has none that is sampled
}

// note notes a statement that begins.
func (d *doing) note(kind, sql string, began int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kind, d.sql, d.began, d.cause, d.trace = kind, sql, began, nil, trace.TraceID{}
}

// traced notes the trace id of the statement that was noted last.
func (d *doing) traced(id trace.TraceID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.trace = id
}

// noStatement notes that something begins that is not a statement, such as a ping. It must not be taken for the last
// statement.
func (d *doing) noStatement() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.began, d.cause = 0, nil
}

// causeOf returns what the statement that began then was found to wait for, nil if that isn't known.
func (d *doing) causeOf(began int64) *activity.Cause {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.began != began {
		return nil
	}
	return d.cause
}

// Doing returns the kind and the text of the statement under way, or of the borrower's last one. It may be called at any
// time.
func (c *Conn) Doing() (kind, sql string) {
	c.doing.mu.Lock()
	defer c.doing.mu.Unlock()
	return c.doing.kind, c.doing.sql
}

// A Moment is a statement under way, as others see it.
type Moment struct {
	Kind, SQL string          // as in Statement
	Began     int64           // by package clock. No other statement of the connection has begun then, so it serves as a name
	Cause     *activity.Cause // what it was last found to wait for; nil: not known
	Trace     trace.TraceID   // of its span; zero: it has none that is sampled
}

// UnderWay returns the statement under way, and whether there is one. Rows that are open are under way, unless
// command_timeout has ended their statement. It may be called at any time.
//
// A statement that begins is noted before the guard runs, and the guard stops before the next one is noted: so when the
// guard runs, what is noted is what it runs for, or its successor, which is only about to begin and young.
func (c *Conn) UnderWay() (m Moment, ok bool) {
	running, _ := c.guard.State()
	if !running {
		return m, false
	}
	d := &c.doing
	d.mu.Lock()
	defer d.mu.Unlock()
	return Moment{Kind: d.kind, SQL: d.sql, Began: d.began, Cause: d.cause, Trace: d.trace}, d.began != 0
}

// NoteCause notes what the statement that began then was found to wait for, and reports whether it is still under way.
// Otherwise the cause is dropped. It may be called at any time.
func (c *Conn) NoteCause(began int64, cause *activity.Cause) bool {
	if running, _ := c.guard.State(); !running {
		return false
	}
	d := &c.doing
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.began != began {
		return false
	}
	d.cause = cause
	return true
}
