package diagnose

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/link"
)

// An inquiry is one question to the server, over a connection of the prober's. It may take as long as a dial, which is
// longer than the look that began it. Then a later look finds its connection, and its answer if that is new enough. An
// inquiry ends when it has an answer or an error, when its time is up, when it is abandoned, or when the pool is closed.
type inquiry struct {
	cancel context.CancelFunc

	heard *atomic.Int64 // link.Check.Heard of its connection

	// conn is used by the inquiry alone until it is over, then guarded by Prober.mu. It is nil if there is none yet, or none any
	// more.
	conn      *link.Conn
	kept      bool   // it began with the connection of an earlier inquiry
	over      int64  // by package clock: when it was over; 0: it is under way. Guarded by Prober.mu, as are the next two
	answer    answer // its answer, once it is over
	abandoned bool   // nobody wants the answer: when it is over its connection is closed
}

// mostInquiries is how many inquiries are under way at most. If a server hangs, each look abandons the oldest.
const mostInquiries = 3

// A look is one attempt to get an answer, within probeTimeout. There are two ways to ask: over the connection that was kept, and
// over a new one, which is made as for the pool. If nothing has answered for nextWay, the second way is tried as well, while the
// first goes on.
type look struct {
	*Prober
	ctx       context.Context // ends when the look's time is up
	began     int64           // by package clock
	connected bool            // the second way was tried
	failed    error           // the latest failure of an inquiry since the look began; nil: there was none
}

// ask does one look at the server and returns what it has found.
func (h *Prober) ask(ctx context.Context) answer {
	l := &look{Prober: h, ctx: ctx, began: clock.Now()}
	l.gather() // inquiries of earlier looks: their answers are too old by now, but their connections are useful
	if l.pending() == 0 || l.hasConn() {
		l.next()
	}
	more := time.NewTicker(nextWay)
	defer more.Stop()
	for {
		select {
		case <-h.news:
			if a, ok := l.gather(); ok {
				return a
			}
			if l.pending() > 0 {
				continue
			}
			if l.connected {
				return answer{err: l.failed} // a new connection failed, and no inquiry is left to wait for
			}
			l.next() // the connection that was kept is dead: a new one is made at once
		case <-more.C:
			l.next()
		case <-ctx.Done():
			return l.timedOut()
		}
	}
}

// pending returns how many inquiries are under way or were not gathered yet.
func (l *look) pending() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.asking)
}

// hasConn reports whether there is a connection that was kept.
func (l *look) hasConn() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn != nil
}

// next begins an inquiry in the next way that was not tried yet, if there is one.
func (l *look) next() {
	h := l.Prober
	h.mu.Lock()
	defer h.mu.Unlock()
	q := &inquiry{heard: new(atomic.Int64)}
	switch {
	case h.conn != nil:
		q.conn, q.kept, q.heard, h.conn = h.conn, true, h.heard, nil
		q.heard.Store(0)
	case !l.connected:
		l.connected = true
	default:
		return
	}
	h.beginLocked(q)
}

// beginLocked starts an inquiry as one of the pool's tasks. It is called with h.mu held.
func (h *Prober) beginLocked(q *inquiry) {
	if len(h.asking) == mostInquiries {
		h.asking[0].abandonLocked(h)
		h.asking = h.asking[1:]
	}
	h.asking = append(h.asking, q)
	ctx, cancel := context.WithTimeout(h.Life(), h.Dialer().Limit())
	q.cancel = cancel
	h.Run(func() { h.inquire(ctx, q) }) // ends with ctx at the latest, see inquiry
}

// inquire runs an inquiry and wakes up the look that waits for one to be over.
func (h *Prober) inquire(ctx context.Context, q *inquiry) {
	defer q.cancel()
	a := h.inquireOn(ctx, q)
	a.at = time.Now()
	h.mu.Lock()
	q.answer, q.over = a, clock.Now()
	if q.abandoned {
		q.dropLocked(h)
	}
	h.mu.Unlock()
	select {
	case h.news <- struct{}{}:
	default: // a value is there already; the look that receives it gathers all inquiries that are over
	}
}

// inquireOn makes a connection if the inquiry has none, and asks the server. If the inquiry fails it has no connection
// afterwards.
func (h *Prober) inquireOn(ctx context.Context, q *inquiry) answer {
	if q.conn == nil {
		c, err := h.connect(ctx, q)
		if err != nil {
			return answer{err: err}
		}
		q.conn = c
	}
	a := h.examine(ctx, q.conn)
	if a.err != nil {
		h.drop(q.conn)
		q.conn = nil
	}
	return a
}

// connect makes a connection outside the pool, to a server of the kind that target_session_attrs asks for, or, if there is
// none, to any other, so that the check can say what kind of server there is.
func (h *Prober) connect(ctx context.Context, q *inquiry) (*link.Conn, error) {
	check := &link.Check{Heard: q.heard}
	c, err := h.Dialer().Dial(ctx, h.Observer(), check)
	if err != nil && h.cfg.Conn.ValidateConnect != nil {
		check.Anywhere = true
		c, err = h.Dialer().Dial(ctx, h.Observer(), check)
	}
	if err != nil {
		return nil, h.Dialer().Failed(err)
	}
	return c, nil
}

// gather removes the inquiries that are over from h.asking. found reports whether one of them was answered since the look
// began; a is its answer, and all others are abandoned. The connection of an inquiry that was answered is kept for the next
// look, unless there is one already, or it is an older connection whose server is not of the right kind any more.
func (l *look) gather() (a answer, found bool) {
	h := l.Prober
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asking = slices.DeleteFunc(h.asking, func(q *inquiry) bool {
		switch current := q.over >= l.began; {
		case q.over == 0:
			return false
		case q.answer.err != nil && current:
			l.failed = q.answer.err
		case q.answer.err != nil:
		case q.kept && !q.answer.kind.Fits(l.cfg.TargetSessionAttrs), h.conn != nil:
			q.dropLocked(h)
		default:
			h.conn, h.heard, q.conn = q.conn, q.heard, nil
			a, found = q.answer, current
		}
		return true
	})
	if found {
		h.abandonLocked()
	}
	return a, found
}

// timedOut returns the answer of a look whose time is up. The inquiries that it has begun go on, for the next look.
func (l *look) timedOut() (a answer) {
	h := l.Prober
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, q := range h.asking {
		if q.over == 0 && q.heard.Load() >= l.began {
			a.sign = signHeard
		}
	}
	silent := l.Dialer().Failed(fmt.Errorf("no answer within %v: %w", probeTimeout, context.DeadlineExceeded))
	a.err = cmp.Or[error](l.failed, silent)
	return a
}

// abandonLocked ends an inquiry whose answer nobody wants any more, and sees to it that its connection is closed. It is
// called with Prober.mu held.
func (q *inquiry) abandonLocked(h *Prober) {
	q.abandoned = true
	q.cancel()
	if q.over != 0 {
		q.dropLocked(h)
	}
}

// dropLocked closes the connection of an inquiry that is over, if it has one. It is called with Prober.mu held.
func (q *inquiry) dropLocked(h *Prober) {
	if q.conn != nil {
		h.drop(q.conn)
		q.conn = nil
	}
}

// abandonLocked ends all inquiries. It is called with h.mu held.
func (h *Prober) abandonLocked() {
	for _, q := range h.asking {
		q.abandonLocked(h)
	}
	h.asking = nil
}

// forgetLocked ends all inquiries and closes the connection that was kept. It is called with h.mu held.
func (h *Prober) forgetLocked() {
	h.abandonLocked()
	if h.conn != nil {
		h.drop(h.conn)
		h.conn = nil
	}
}
