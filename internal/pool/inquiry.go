package pool

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgprod/pgprod/internal/clock"
)

// An inquiry asks the server who it is, over a connection of a health check's own. It may take as long as a dial, which is
// longer than the look that began it lasts: then the next look finds its answer, or at least its connection. What ends it
// is its own time, a look that has its answer, or Close.
type inquiry struct {
	cancel context.CancelFunc
	hasty  time.Duration // what each host gets of the time; 0: as much as for a dial

	heard *atomic.Int64 // by clock.Now(): when the server that is being asked last sent something; 0: it has not

	c         *conn  // nil: none yet, or none any more. The inquiry's own until it is over, then guarded by prober.mu
	kept      bool   // it began with the connection of an earlier one
	over      int64  // by clock.Now(): since when; 0: it is under way. Guarded by prober.mu, as are the next two
	answer    answer // once it is over
	abandoned bool   // nobody wants the answer
}

// mostInquiries is how many are under way at once. Where a server hangs, each look abandons the oldest.
const mostInquiries = 3

// listener is the network connection of an inquiry.
type listener struct {
	net.Conn
	heard *atomic.Int64
}

// listenTo has an inquiry note what it hears on a connection that was dialled just now. What was heard of the host
// before, which turned out to be of no use, doesn't count.
func (q *inquiry) listenTo(nc net.Conn) net.Conn {
	q.heard.Store(0)
	return listener{nc, q.heard}
}

// Read implements net.Conn.
func (l listener) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if n > 0 {
		l.heard.Store(clock.Now())
	}
	return n, err
}

// A look is one attempt to get an answer. It begins with the connection that there is. What is silent for a while is
// asked in the next way as well, since it may be slow, or dead: on a new connection, which is made as for the pool, and then
// on one for which each host gets little time, as the first may swallow everything.
type look struct {
	p         *Pool
	ctx       context.Context // ends the look
	began     int64           // by clock.Now()
	connected bool            // a new connection is being made, or was
	hurried   bool            // so is one in a hurry
	failed    error           // the latest failure since it began
}

// ask is one look at the server.
func (p *Pool) ask(ctx context.Context) answer {
	l := &look{p: p, ctx: ctx, began: clock.Now()}
	l.gather() // what was begun by earlier looks: an answer is old by now, its connection isn't
	if l.pending() == 0 || l.hasConn() {
		l.next()
	}
	more := time.NewTicker(nextWay)
	defer more.Stop()
	for {
		select {
		case <-p.prober.news:
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
	l.p.prober.mu.Lock()
	defer l.p.prober.mu.Unlock()
	return len(l.p.prober.asking)
}

func (l *look) hasConn() bool {
	l.p.prober.mu.Lock()
	defer l.p.prober.mu.Unlock()
	return l.p.prober.c != nil
}

// next begins the next inquiry, if there is another way to ask.
func (l *look) next() {
	h := &l.p.prober
	h.mu.Lock()
	defer h.mu.Unlock()
	q := &inquiry{heard: new(atomic.Int64)}
	switch {
	case h.c != nil:
		q.c, q.kept, q.heard, h.c = h.c, true, h.c.inquiry.heard, nil
		q.heard.Store(0)
	case !l.connected:
		l.connected = true
	case !l.hurried && l.p.hasOtherAddresses():
		l.hurried = true
		deadline, _ := l.ctx.Deadline()
		q.hasty = max(time.Until(deadline), time.Millisecond) / time.Duration(2+len(l.p.cfg.Conn.Fallbacks))
	default:
		return
	}
	h.beginLocked(l.p, q)
}

// hasOtherAddresses reports whether there may be more than one address to connect to: several hosts, or a name.
func (p *Pool) hasOtherAddresses() bool {
	cc := p.cfg.Conn
	return len(cc.Fallbacks) > 0 || net.ParseIP(cc.Host) == nil && !filepath.IsAbs(cc.Host)
}

// beginLocked is called with h.mu held.
func (h *prober) beginLocked(p *Pool, q *inquiry) {
	if len(h.asking) == mostInquiries {
		h.asking[0].abandonLocked()
		h.asking = h.asking[1:]
	}
	h.asking = append(h.asking, q)
	ctx, cancel := context.WithTimeout(p.life, p.dialLimit())
	q.cancel = cancel
	p.tasks.run(func() { p.inquire(ctx, q) }) // see inquiry for what ends it
}

// inquire runs an inquiry.
func (p *Pool) inquire(ctx context.Context, q *inquiry) {
	defer q.cancel()
	a := p.inquireOn(ctx, q)
	a.at = time.Now()
	h := &p.prober
	h.mu.Lock()
	q.answer, q.over = a, clock.Now()
	if q.abandoned {
		q.dropLocked()
	}
	h.mu.Unlock()
	select {
	case h.news <- struct{}{}:
	default: // somebody else's news is there, who looks at that looks at all
	}
}

// inquireOn makes the connection, if there is none, and asks. If that fails the inquiry has no connection afterwards.
func (p *Pool) inquireOn(ctx context.Context, q *inquiry) answer {
	if q.c == nil {
		c, err := p.probe(ctx, q)
		if err != nil {
			return answer{err: err}
		}
		q.c = c
	}
	a := q.c.examine(ctx)
	if a.err != nil {
		q.c.drop()
		q.c = nil
	}
	return a
}

// probe connects outside the pool: to a server of the kind that the DSN asks for, else to any.
func (p *Pool) probe(ctx context.Context, q *inquiry) (*conn, error) {
	c := p.newConn()
	c.inquiry = q
	ctx = context.WithValue(ctx, connecting{}, true)
	err := c.connect(ctx)
	if err != nil && p.cfg.Conn.ValidateConnect != nil {
		c = p.newConn()
		c.inquiry, c.anywhere = q, true
		err = c.connect(ctx)
	}
	if err != nil {
		return nil, p.dialError(err)
	}
	return c, nil
}

// asProbe changes how a connection is made that isn't for the pool.
func (c *conn) asProbe(cc *pgx.ConnConfig) {
	const suffix, longest = " (pgprod check)", 63
	if name := cc.RuntimeParams["application_name"]; name != "" {
		cc.RuntimeParams = maps.Clone(cc.RuntimeParams) // pgx hands out the map that all dials share
		cc.RuntimeParams["application_name"] = name[:min(len(name), longest-len(suffix))] + suffix
	}
	if hasty := c.inquiry.hasty; hasty > 0 {
		cc.ConnectTimeout = min(cc.ConnectTimeout, hasty)
	}
	if c.anywhere {
		cc.ValidateConnect = nil
	}
}

// gather sees to the inquiries that are over, and returns the answer that one of them has got since the look began. Then
// the others are abandoned. The connection of one that was answered is kept, unless it leads to the wrong kind of server
// by now.
func (l *look) gather() (a answer, found bool) {
	h := &l.p.prober
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asking = slices.DeleteFunc(h.asking, func(q *inquiry) bool {
		switch current := q.over >= l.began; {
		case q.over == 0:
			return false
		case q.answer.err != nil && current:
			l.failed = q.answer.err
		case q.answer.err != nil:
		case q.kept && l.p.misplaced(q.answer), h.c != nil:
			q.dropLocked()
		default:
			h.c, q.c = q.c, nil
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
	h := &l.p.prober
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, q := range h.asking {
		if q.over == 0 && q.heard.Load() >= l.began {
			a.life = heard
		}
	}
	silent := l.p.dialError(fmt.Errorf("no answer within %v: %w", probeTimeout, context.DeadlineExceeded))
	a.err = cmp.Or[error](l.failed, silent)
	return a
}

// abandonLocked ends an inquiry that nobody wants the answer of. It is called with prober.mu held.
func (q *inquiry) abandonLocked() {
	q.abandoned = true
	q.cancel()
	if q.over != 0 {
		q.dropLocked()
	}
}

// dropLocked closes the connection of an inquiry that is over, if it has one. It is called with prober.mu held.
func (q *inquiry) dropLocked() {
	if q.c != nil {
		q.c.drop()
		q.c = nil
	}
}

// abandonLocked ends all inquiries. It is called with h.mu held.
func (h *prober) abandonLocked() {
	for _, q := range h.asking {
		q.abandonLocked()
	}
	h.asking = nil
}

// forgetLocked ends all inquiries and closes the connection that was kept. It is called with h.mu held.
func (h *prober) forgetLocked() {
	h.abandonLocked()
	if h.c != nil {
		h.c.drop()
		h.c = nil
	}
}
