// Package pool is the layer between the application's *sql.DB and the server.
//
// A session is what the application's *sql.DB takes for a connection. It has none until its first use: then it waits
// its turn in the queue (package lease), takes a connection from an inner *sql.DB, and keeps it until the
// application's *sql.DB puts the session away.
//
//	session.go   the driver.Conn that the application's *sql.DB holds
//	retry.go     the one place that decides whether a statement is tried again
//	prepare.go   prepared statements, which need no connection of their own
//	intx.go      transactions that are begun again when they were rolled back for certain
//	borrow.go    getting a connection, proving it, giving it back
//	shelf.go     the idle connections, in front of the inner *sql.DB
//	member.go    a connection of the pool, and how it is closed
//	observer.go  what is made of what happens on it
//	dial.go      making connections, when the queue asks for one
//	leak.go      who has a connection, and who has it for too long
//	figures.go   how full the pool is, for Status and for metrics
//	page.go      what the live page shows
//	errors.go    why there was no connection, in one line
//	names.go     names of pools, each once in the process
//	tasks.go     goroutines that Close waits for
package pool

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/diagnose"
	"github.com/pgprod/pgprod/internal/diary"
	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/lease"
	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/settings"
	"github.com/pgprod/pgprod/internal/sqlcomment"
	"github.com/pgprod/pgprod/internal/stack"
)

// Hooks are what the application passes in code and no text can hold.
type Hooks struct {
	Logger   *slog.Logger                          // nil: slog.Default() at the time of each line
	Password func(context.Context) (string, error) // nil: as the settings say
	Notice   func(*pgconn.Notice)                  // nil: nobody wants to hear them

	Telemetry instruments.Options   // PoolName is the settings'
	Commenter *sqlcomment.Commenter // nil: statements go as they are
}

// A Pool is safe for concurrent use.
type Pool struct {
	cfg   *settings.Config // not changed after New
	hooks Hooks
	life  context.Context // ends with Close, and with it the pings under way
	end   context.CancelFunc

	queue    *lease.Queue
	dialer   *link.Dialer
	doubts   pgerror.Doubts
	entrance entrance
	inner    *sql.DB
	shelf    shelf
	overflow sync.Mutex // is held from counting the idle connections to keeping one more, or taking one out
	books    books
	trust    trust

	in        *instruments.Instruments
	diary     *diary.Diary
	stacks    stack.Budget
	prober    *diagnose.Prober
	preflight *diagnose.Preflight
	watch     watch
	tasks     tasks
	closed    atomic.Bool
}

// trust is which of the pool's connections may be lent as they are.
type trust struct {
	generation atomic.Uint64 // connections of an older one are not lent again
	suspicion  atomic.Int64  // by package clock; a connection not heard of since must answer a ping before it is lent
}

// New returns a pool that has no connection yet. It takes over cfg, and reserves the pool's name until Close.
func New(cfg *settings.Config, hooks Hooks) (*Pool, error) {
	cfg.PoolName = reserveName(cfg.PoolName)
	p := &Pool{
		cfg:   cfg,
		hooks: hooks,
		diary: diary.New(diary.Options{
			Pool: cfg.PoolName, Logger: hooks.Logger, Echo: cfg.Echo, EchoPool: cfg.EchoPool, Slow: cfg.SlowQuery,
		}),
	}
	hooks.Telemetry.PoolName = cfg.PoolName
	var err error
	if p.in, err = instruments.New(hooks.Telemetry, p.state); err != nil {
		releaseName(cfg.PoolName)
		return nil, fmt.Errorf("pgprod: instruments: %w", err)
	}
	p.life, p.end = context.WithCancel(context.Background())
	p.books.members, p.books.closings = map[*member]bool{}, map[string]int64{}
	p.dialer = link.NewDialer(p.life, cfg, link.Hooks{
		Password: hooks.Password, Notice: hooks.Notice, Target: p.in.Target, Tagged: hooks.Commenter != nil,
	})
	p.queue = lease.NewQueue(cfg.Capacity(), maker{p})
	p.shelf.unused, p.shelf.cool = p.onShelf(), p.cool
	p.inner = p.newInner()
	p.prober = diagnose.NewProber(view{p})
	p.preflight = diagnose.NewPreflight(view{p})
	p.diary.Settings(p.life, cfg.Warnings)
	return p, nil
}

// Close sends waiting callers away, closes idle connections and waits for dials, pings and goodbyes, a few seconds at
// most. A connection in use is closed when it is given back. Close may be called more than once.
func (p *Pool) Close() error {
	if p.closed.Swap(true) {
		return nil
	}
	p.end()
	p.prober.Close()
	p.queue.Close()
	for _, m := range p.shelf.close() {
		p.discard(m, "closed")
	}
	err := errors.Join(p.inner.Close(), p.in.Close())
	p.stopLeakWatch()
	p.preflight.Close()
	p.tasks.wait()
	p.diary.Close()
	releaseName(p.cfg.PoolName)
	return err
}

// invalidate is called when a connection of the given generation was lost: none as old as that is lent again, and those
// that are idle are closed at once. A late error of an older generation changes nothing.
func (p *Pool) invalidate(generation uint64, cause error) {
	if !p.trust.generation.CompareAndSwap(generation, generation+1) {
		return
	}
	p.lost(cause)
	p.tasks.run(func() { p.sweep(generation) })
}

// sweep closes the idle connections of a generation and of those before it. All that are idle are taken out for a moment,
// the newer ones included, since an older one may lie below them. Who borrows meanwhile gets a connection or waits for one
// to be put back, and looks at its generation in any case.
func (p *Pool) sweep(generation uint64) {
	var newer []*member
	for p.queue.TryReserve() {
		m, err := p.takeIdle(p.life)
		if err != nil {
			p.queue.Unreserve()
			break
		}
		if m.generation > generation {
			newer = append(newer, m)
			continue
		}
		p.discard(m, "invalid")
		p.queue.Unreserve()
	}
	for _, m := range slices.Backward(newer) { // in the order in which they lay there
		p.keepOrClose(m)
		p.queue.Unreserve()
	}
}

// suspect is called when the server didn't answer a cancel request: every connection has to prove itself.
func (p *Pool) suspect() { p.trust.suspicion.Store(clock.Now()) }
