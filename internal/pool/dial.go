package pool

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/lease"
	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/pgerror"
)

// A maker makes the pool's connections when the queue asks for one.
type maker struct{ *Pool }

var _ lease.Dialer = maker{}

// Dial implements lease.Dialer. The queue calls it, in a goroutine of its own, when callers wait and there is room, or when
// fewer than pool_min connections exist. If the error is nil, a connection was made and is on the shelf, where one of the
// waiting callers finds it.
func (p maker) Dial(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.dialer.Limit())
	defer cancel()
	if p.scout != nil {
		p.scout.Wake()
	}
	start := clock.Now()
	m := &member{observer: p.newObserver(), neverLent: true, begun: start}
	ctx, op := p.in.Target(nil).BeginConnect(ctx)
	conn, err := p.dialer.Dial(ctx, m, nil)
	if err == nil {
		op.Reached(conn.Target())
		m.dialled = conn.Heard()
	}
	op.End(ctx, -1, err, "")
	if err == nil && !p.queue.Awaited() { // a caller that waits gets the connection at once
		err = conn.Warm(ctx)
	}
	if err != nil {
		failure := p.dialer.Failed(err)
		failure.Final = p.isFinal(err)
		p.noteDialFailure(ctx, failure)
		return failure
	}
	p.doubts.End()
	p.diary.DialSucceeded(ctx)
	m.conn, m.role = conn, conn.Role()
	p.settle(m)
	m.checkedIn = m.dialled
	m.login, m.share = conn.Login(), rand.Float64()
	m.expires = p.expiry(m.dialled) // counted from the end of the dial, which may have taken longer than a short pool_recycle
	overflow := p.remember(m)
	p.in.Created(ctx, clock.Seconds(m.dialled-start))
	p.preflight.Plan()
	p.diary.Connected(ctx, conn.PID(), time.Duration(m.dialled-start), overflow)
	p.enter(m)
	p.watchPlaces()
	if m.login != nil {
		p.planRetirement()
	}
	return nil
}

// DialEnded implements lease.Dialer: perhaps nobody waits for what was dialled any more.
func (p maker) DialEnded() { p.closeOverflow() }

// closeOverflow closes connections while more than pool_size are idle. It is called when a connection has become idle: after a
// dial, and when one was given back.
func (p *Pool) closeOverflow() {
	for p.books.size.Load() > int64(p.cfg.PoolSize) {
		m := p.takeBeyondSize()
		if m == nil {
			return
		}
		_ = m.handle.Close()
	}
}

// takeBeyondSize is called by closeOverflow. If more than pool_size connections are idle it takes one from the shelf, writes it
// off and returns it, for its caller to close. It returns nil if no more are idle, or if the shelf is empty, because the
// connection has just been taken: then putBack decides about it.
func (p *Pool) takeBeyondSize() *member {
	p.overflow.Lock()
	defer p.overflow.Unlock()
	if p.queue.Idle() <= p.cfg.PoolSize || !p.queue.TryReserve() {
		return nil
	}
	defer p.queue.Unreserve()
	m := p.shelf.pop()
	if m != nil {
		p.writeOff(m, "overflow")
	}
	return m
}

// isFinal is called by Dial with the error of a dial that failed. It reports whether a further dial would fail in the same
// way, which may depend on the dials before this one. A failure to get what to log in with is never
// final, since the next dial asks again.
func (p *Pool) isFinal(err error) bool {
	if _, nothing := errors.AsType[*link.LoginError](err); nothing {
		p.doubts.End()
		return false
	}
	if hook, failed := errors.AsType[*link.HookError](err); failed && hook.Alive && pgerror.From(err) == nil {
		return p.doubts.Last("after connect", time.Now())
	}
	return p.doubts.IsFinal(err, p.dialer.RereadsPassword(), time.Now())
}

// Hopeless implements lease.Dialer. Dial has decided it.
func (p maker) Hopeless(err error) bool {
	failure, ok := errors.AsType[*link.DialError](err)
	return ok && failure.Final
}

// expiry returns when a connection that was made at now is too old, by package clock, or 0 for never. It is up to a tenth
// earlier than pool_recycle says, at random, so that connections which were made together are not all replaced together.
func (p *Pool) expiry(now int64) int64 {
	if p.cfg.PoolRecycle <= 0 {
		return 0
	}
	recycle := float64(p.cfg.PoolRecycle)
	return now + int64(recycle-recycle/10*rand.Float64())
}

// noteDropped is called when a connection was made without defaults of pgprod's that a pooler has refused, once.
func (p *Pool) noteDropped(ctx context.Context, text string) { p.diary.Settings(ctx, []string{text}) }

// dropped returns what noteDropped was called with, as a list of warnings.
func (p *Pool) dropped() []string {
	if text := p.dialer.DroppedText(); text != "" {
		return []string{text}
	}
	return nil
}
