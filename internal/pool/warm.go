package pool

import (
	"context"
	"database/sql"
	"sync"
	"time"

	"github.com/pgprod/pgprod/internal/clock"
)

// warmFor is how long a connection that was given back is kept at hand before it goes to the inner *sql.DB.
const warmFor = time.Second

// warm are the connections at hand: those that were used within the last second. A busy pool lends them again and again,
// which saves each checkout the way through the inner *sql.DB and two allocations. Whoever is not needed for a second goes
// back to the inner *sql.DB, which knows when to close whom.
type warm struct {
	mu      sync.Mutex // guards what follows
	all     []atHand   // the one that was used last at the end
	timer   *time.Timer
	running bool // the timer will fire
	closed  bool
}

// atHand is a connection with what holds it in the inner *sql.DB.
type atHand struct {
	sc *sql.Conn
	c  *conn
}

// push keeps a connection at hand, or refuses since the pool is closed.
func (p *Pool) push(h atHand) bool {
	w := &p.warm
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.all = append(w.all, h)
	if !w.running {
		w.running = true
		if w.timer == nil {
			w.timer = time.AfterFunc(p.warmFor(), p.cool)
		} else {
			w.timer.Reset(p.warmFor())
		}
	}
	return true
}

// warmFor is a second, but less where connections don't live as long.
func (p *Pool) warmFor() time.Duration {
	d := warmFor
	for _, limit := range []time.Duration{p.cfg.PoolIdleTimeout, p.cfg.PoolRecycle} {
		if limit > 0 {
			d = min(d, max(limit/10, time.Millisecond))
		}
	}
	return d
}

// pop returns the connection that was used last, if one is at hand.
func (w *warm) pop() (h atHand, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := len(w.all) - 1
	if last < 0 {
		return atHand{}, false
	}
	h = w.all[last]
	w.all[last] = atHand{}
	w.all = w.all[:last]
	return h, true
}

// shift returns the connection that was used first, if that was before a time.
func (w *warm) shift(before int64) (h atHand, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.all) == 0 || w.all[0].c.returned > before {
		return atHand{}, false
	}
	h = w.all[0]
	w.all[0] = atHand{}
	w.all = w.all[1:]
	return h, true
}

// get takes an idle connection: one at hand, else one of the inner *sql.DB's.
func (p *Pool) get(ctx context.Context) (atHand, error) {
	if h, ok := p.warm.pop(); ok {
		return h, nil
	}
	sc, err := p.inner.Conn(ctx)
	if err != nil {
		return atHand{}, err
	}
	h := atHand{sc: sc}
	if err := sc.Raw(func(driverConn any) error {
		h.c = driverConn.(*conn)
		return nil
	}); err != nil {
		panic("pgprod: " + err.Error()) // a *sql.Conn that nobody else knows can't be closed
	}
	return h, nil
}

// cool hands what hasn't been used for a while to the inner *sql.DB. It is called by the timer.
func (p *Pool) cool() {
	p.flushWarm(clock.Now() - int64(p.warmFor()))
	w := &p.warm
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running = len(w.all) > 0 && !w.closed; w.running {
		w.timer.Reset(p.warmFor())
	}
}

// flushWarm hands what was last used before a time to the inner *sql.DB. A place is held meanwhile, so that nobody is
// sent for a connection that is on its way. If there is none everything is in use, and so in nobody's hand for long.
func (p *Pool) flushWarm(before int64) {
	for p.queue.TryAcquire() {
		h, ok := p.warm.shift(before)
		if ok {
			_ = h.sc.Close()
		}
		p.queue.ReleaseAside()
		if !ok {
			return
		}
	}
}

// closeWarm is called by Close, before the inner *sql.DB is closed.
func (p *Pool) closeWarm() {
	w := &p.warm
	w.mu.Lock()
	all := w.all
	w.all, w.closed = nil, true
	if w.timer != nil {
		w.timer.Stop()
	}
	w.mu.Unlock()
	for _, h := range all {
		_ = h.sc.Close()
	}
}
