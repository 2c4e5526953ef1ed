package pool

import (
	"context"
	"slices"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/diagnose"
	"github.com/pgprod/pgprod/internal/diary"
	"github.com/pgprod/pgprod/internal/lease"
	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/settings"
)

// A view is the pool as package diagnose sees it, whose interface diagnose.Pool says what each method is for.
type view struct{ p *Pool }

var _ diagnose.Pool = view{}

func (v view) Settings() *settings.Config      { return v.p.cfg }
func (v view) Dialer() *link.Dialer            { return v.p.dialer }
func (v view) Diary() *diary.Diary             { return v.p.diary }
func (v view) Failure(err error) diary.Failure { return failure(err) }
func (v view) Life() context.Context           { return v.p.life }
func (v view) Closed() bool                    { return v.p.closed.Load() }
func (v view) Run(task func())                 { v.p.tasks.run(task) }
func (v view) Observer() link.Observer         { return v.p.newObserver() }
func (v view) Status() activity.Status         { return v.p.Status() }
func (v view) Figures() lease.Stats            { return v.p.queue.Stats() }

// HeardSince implements diagnose.Pool. A login doesn't count as an answer, since a pooler may have accepted it while the
// server behind it is gone.
func (v view) HeardSince(since int64) bool {
	b := &v.p.books
	b.mu.Lock()
	defer b.mu.Unlock()
	for m := range b.members {
		if at := m.conn.Heard(); at >= since && at != m.dialled {
			return true
		}
	}
	return false
}

// WithIdle implements diagnose.Pool. It takes an idle connection for as long as ask runs, without counting a checkout, and
// puts it back or closes it. An answer that link.Conn.Ask gets doesn't make the connection one that was heard lately, so
// that the next borrower's ping is no later for it.
func (v view) WithIdle(ask func(*link.Conn) error) (found bool, err error) {
	p := v.p
	if !p.queue.TryReserve() {
		return false, nil
	}
	defer p.queue.Unreserve()
	m, err := p.takeIdle(p.life)
	if err != nil {
		return false, nil
	}
	defer func() {
		if m.condemned == "" {
			p.keepOrClose(m)
		} else {
			p.discard(m, m.condemned)
		}
	}()
	if m.condemn(clock.Now()) {
		return false, nil
	}
	err = ask(m.conn)
	if err != nil && m.verdict(clock.Now()) != "" {
		m.condemned = "invalid"
		return false, nil // the connection was dead, which says nothing about the question
	}
	return true, err
}

// Check reports how the server and the pool are. What it says of the server may be a second old.
func (p *Pool) Check(ctx context.Context) activity.Health { return p.prober.Check(ctx, p.Warnings()) }

// Warnings returns what is wrong with the settings, and what the preflight has found.
func (p *Pool) Warnings() []string {
	return slices.Concat(p.cfg.Warnings, p.dropped(), p.preflight.Warnings())
}
