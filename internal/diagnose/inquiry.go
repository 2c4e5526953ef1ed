package diagnose

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/link"
)

// An inquiry asks the server who it is, over a connection of a health check's own. It may take as long as a dial, which is
// longer than the look that began it lasts: then the next look finds its answer, or at least its connection. What ends it
// is its own time, a look that has its answer, or Close.
type inquiry struct {
	cancel context.CancelFunc
	perHost  time.Duration // what each host gets of the time; 0: as much as for a dial

	heard *atomic.Int64 // by package clock: when the server that is being asked last sent something; 0: it has not

	c         *link.Conn // nil: none yet, or none any more. The inquiry's own until it is over, then guarded by Prober.mu
	kept      bool       // it began with the connection of an earlier one
	over      int64      // by package clock: since when; 0: it is under way. Guarded by Prober.mu, as are the next two
	answer    answer     // once it is over
	abandoned bool       // nobody wants the answer
}

// mostInquiries is how many are under way at once. Where a server hangs, each look abandons the oldest.
const mostInquiries = 3

// A look is one attempt to get an answer. It begins with the connection that there is. What is silent for a while is
// asked in the next way as well, since it may be slow, or dead: on a new connection, which is made as for the pool, and then
// on one for which each host gets little time, as the first may swallow everything.
type look struct {
	*Prober
	ctx       context.Context // ends the look
	began     int64           // by clock.Now()
	connected bool            // a new connection is being made, or was
	hurried   bool            // so is one in a hurry
	failed    error           // the latest failure since it began
}

// ask is one look at the server.
func (h *Prober) ask(ctx context.Context) answer {
	l := &look{Prober: h, ctx: ctx, began: clock.Now()}
	l.gather() // what was begun by earlier looks: an answer is old by now, its connection isn't
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
				return answer{err: l.failed}
			}
			l.next()
		case <-more.C:
			l.next()
		case <-ctx.Done():
			return l.timedOut()
		}
	}
}

func (l *look) pending() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.asking)
}

func (l *look) hasConn() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.c != nil
}

// next begins the next inquiry, if there is another way to ask.
func (l *look) next() {
	h := l.Prober
	h.mu.Lock()
	defer h.mu.Unlock()
	q := &inquiry{heard: new(atomic.Int64)}
	switch {
	case h.c != nil:
		q.c, q.kept, q.heard, h.c = h.c, true, h.heard, nil
		q.heard.Store(0)
	case !l.connected:
		l.connected = true
	case !l.hurried && l.hasOtherAddresses():
		l.hurried = true
		deadline, _ := l.ctx.Deadline()
		q.perHost = max(time.Until(deadline), time.Millisecond) / time.Duration(2+len(l.cfg.Conn.Fallbacks))
	default:
		return
	}
	h.beginLocked(q)
}

// hasOtherAddresses reports whether there may be more than one address to connect to: several hosts, or a name.
func (h *Prober) hasOtherAddresses() bool {
	cc := h.cfg.Conn
	return len(cc.Fallbacks) > 0 || net.ParseIP(cc.Host) == nil && !filepath.IsAbs(cc.Host)
}

// beginLocked is called with h.mu held.
func (h *Prober) beginLocked(q *inquiry) {
	if len(h.asking) == mostInquiries {
		h.asking[0].abandonLocked(h)
		h.asking = h.asking[1:]
	}
	h.asking = append(h.asking, q)
	ctx, cancel := context.WithTimeout(h.Life(), h.Dialer().Limit())
	q.cancel = cancel
	h.Run(func() { h.inquire(ctx, q) }) // see inquiry for what ends it
}

// inquire runs an inquiry.
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
	default: // somebody else's news is there, who looks at that looks at all
	}
}

// inquireOn makes the connection, if there is none, and asks. If that fails the inquiry has no connection afterwards.
func (h *Prober) inquireOn(ctx context.Context, q *inquiry) answer {
	if q.c == nil {
		c, err := h.connect(ctx, q)
		if err != nil {
			return answer{err: err}
		}
		q.c = c
	}
	a := h.examine(ctx, q.c)
	if a.err != nil {
		h.drop(q.c)
		q.c = nil
	}
	return a
}

// connect connects outside the pool: to a server of the kind that the DSN asks for, else to any.
func (h *Prober) connect(ctx context.Context, q *inquiry) (*link.Conn, error) {
	check := &link.Check{PerHost: q.perHost, Heard: q.heard}
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

// gather sees to the inquiries that are over, and returns the answer that one of them has got since the look began. Then
// the others are abandoned. The connection of one that was answered is kept, unless it leads to the wrong kind of server
// by now.
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
		case q.kept && l.misplaced(q.answer), h.c != nil:
			q.dropLocked(h)
		default:
			h.c, h.heard, q.c = q.c, q.heard, nil
			a, found = q.answer, current
		}
		return true
	})
	if found {
		h.abandonLocked()
	}
	return a, found
}

// timedOut is the outcome of a look whose time is up. What it has begun goes on.
func (l *look) timedOut() (a answer) {
	h := l.Prober
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, q := range h.asking {
		if q.over == 0 && q.heard.Load() >= l.began {
			a.life = heard
		}
	}
	silent := l.Dialer().Failed(fmt.Errorf("no answer within %v: %w", probeTimeout, context.DeadlineExceeded))
	a.err = cmp.Or[error](l.failed, silent)
	return a
}

// abandonLocked ends an inquiry that nobody wants the answer of. It is called with Prober.mu held.
func (q *inquiry) abandonLocked(h *Prober) {
	q.abandoned = true
	q.cancel()
	if q.over != 0 {
		q.dropLocked(h)
	}
}

// dropLocked closes the connection of an inquiry that is over, if it has one. It is called with Prober.mu held.
func (q *inquiry) dropLocked(h *Prober) {
	if q.c != nil {
		h.drop(q.c)
		q.c = nil
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
	if h.c != nil {
		h.drop(h.c)
		h.c = nil
	}
}
