package pool

import (
	"time"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/stack"
)

// heldByCallerPause is the least time between two looks of heldByCaller, which compares stacks: when the pool is
// exhausted, many callers may fail at once.
const heldByCallerPause = 50 * time.Millisecond

// heldByCaller is called by borrow for a caller that got no connection in time. It returns what that caller perhaps holds
// itself: a connection that was borrowed by the same function, further up, or by a function that has called it, and on
// which no statement waits for the server. Such a caller waits for a second connection, as all others do that have come
// as far, and none gets one. It returns nil if there is no such connection, if borrowers' stacks are not taken, or if it
// was called just before.
func (p *Pool) heldByCaller() *activity.Own {
	now, last := clock.Now(), p.compared.Load()
	if p.cfg.LeakDetection <= 0 || last != 0 && now-last < int64(heldByCallerPause) || !p.compared.CompareAndSwap(last, now) {
		return nil
	}
	var caller stack.Trace
	caller.Take()
	var held *activity.Own
	for _, h := range p.openCheckouts() {
		if !h.maySleep() || !caller.MayFollow(&h.stack) {
			continue
		}
		if held == nil || h.age > held.Held {
			held = h.own()
		}
	}
	return held
}

// maySleep reports whether the borrower may be doing something else than waiting for the server: no statement is under
// way, or the borrower may be busy with the rows of one that is.
func (c *openCheckout) maySleep() bool {
	running, _ := c.m.conn.State()
	return !running || c.stack.Has("(*session).QueryContext")
}
