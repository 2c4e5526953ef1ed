// Package pool is the layer between the application's *sql.DB and the connections to the server.
//
// The application's *sql.DB holds sessions, which it takes for connections. A session has no connection until its first use.
// Then it waits for its turn in the queue (package lease), takes an idle connection, from the shelf or from an inner
// *sql.DB, and keeps it until the application's *sql.DB puts the session away.
//
//	pool.go      Pool: its parts, New and Close
//	session.go   the driver.Conn that the application's *sql.DB holds
//	retry.go     the one place that decides whether a statement is tried again; InTx
//	prepare.go   prepared statements, which need no connection of their own
//	borrow.go    getting a connection, proving that it is alive, giving it back
//	shelf.go     the idle connections: the shelf, and the inner *sql.DB behind it
//	member.go    a connection of the pool, and how it is closed
//	observer.go  what follows from what happens on a connection; errors in words for the diary
//	dial.go      making connections, when the queue asks for one
//	places.go    the addresses that connections lead to, and what happens when one of them was lost
//	scout.go     asking the hosts in the background
//	moving.go    replacing connections that should lead elsewhere
//	retire.go    replacing connections before their credentials end
//	leak.go      who has borrowed a connection, and who has had it for too long
//	itself.go    callers that perhaps wait for themselves
//	slow.go      slow statements that still run, and what the server says they wait for
//	silence.go   hosts that say nothing any more
//	path.go      connections that nothing gets through on, though their host answers
//	question.go  whether they are alive
//	figures.go   the books: which connections exist; figures for Status and for metrics
//	hosts.go     what is known of the hosts, in words
//	page.go      what the live page shows
//	view.go      the pool as health checks and the preflight see it
//	errors.go    the errors of callers that got no connection
//	names.go     the names of pools, which are unique in the process
//	tasks.go     goroutines that Close waits for
package pool

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/credentials"
	"github.com/pgprod/pgprod/internal/diagnose"
	"github.com/pgprod/pgprod/internal/diary"
	"github.com/pgprod/pgprod/internal/hosts"
	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/lease"
	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/repeats"
	"github.com/pgprod/pgprod/internal/settings"
	"github.com/pgprod/pgprod/internal/sqlcomment"
	"github.com/pgprod/pgprod/internal/stack"
)

// Hooks are those parts of the configuration that are code or objects of the application's, and so can't stand in a DSN or
// in the environment.
type Hooks struct {
	Logger *slog.Logger         // nil: slog.Default() at the time of each line
	Login  credentials.Source   // without a function the password comes from the settings
	Notice func(*pgconn.Notice) // called for each notice of the server; nil: notices are not passed on
	// Dial makes network connections; nil: they are made by the network's own dialler.
	Dial pgconn.DialFunc
	// AfterConnect is called for each new connection; nil: there is no such function.
	AfterConnect func(context.Context, *pgx.Conn) error

	Telemetry instruments.Options   // New sets its PoolName and Server from the settings
	Commenter *sqlcomment.Commenter // adds tags to each statement; nil: statements are sent as they are
}

// A Pool has the connections of one *sql.DB of the application's, and decides who gets which. It is safe for concurrent use.
type Pool struct {
	cfg     *settings.Config // not changed after New
	hooks   Hooks            // not changed after New
	life    context.Context  // ends with Close, and ends the pings and health checks under way
	endLife context.CancelFunc

	queue    *lease.Queue   // who gets a connection next, and when another one is made
	dialer   *link.Dialer   // makes the connections
	doubts   pgerror.Doubts // the failed dials that may yet turn out to be permanent
	entrance entrance       // connections on their way into inner
	inner    *sql.DB        // the idle connections that are not on the shelf; closes those that are too old or idle for too long
	shelf    shelf          // the idle connections that were used within the last second
	overflow sync.Mutex     // held while idle connections are counted and, by that count, one is kept or one is taken out
	books    books          // all connections that exist, and counters
	trust    trust          // which connections may be lent, and which must answer a ping first
	places   places         // where they lead to, and which of these places were lost

	in        *instruments.Instruments // spans and metrics
	diary     *diary.Diary             // the log, and the lists of the live page
	stacks    stack.Budget             // limits how often a borrower's stack is taken
	prober    *diagnose.Prober         // the health checks
	plans     *diagnose.Plans          // the plans of slow statements
	preflight *diagnose.Preflight      // looks once at how the server is set up
	watch     watch                    // samples for the live page
	repeats   *repeats.Detector        // finds statements that are repeated where one would do; nil but in development
	scout     *hosts.Scout             // asks the hosts in the background; nil: there is only one
	moving    *moving                  // replaces connections that should lead elsewhere
	retiring  retiring                 // replaces idle connections before their credentials end
	slow      slowWatch                // notices slow statements that still run
	silence   silenceWatch             // notices hosts that say nothing any more
	compared  atomic.Int64             // by package clock: when heldByCaller last compared stacks; 0: it has not yet
	tasks     tasks                    // goroutines that Close waits for
	closed    atomic.Bool              // Close was called
}

// trust says which of the pool's connections may be lent, and which only after a ping.
type trust struct {
	suspicion atomic.Int64 // by package clock: connections that were last heard before it must answer a ping to be lent
	recycled  atomic.Int64 // by package clock: connections whose making began before it are too old; 0: none is for that reason
}

// New returns a pool that has no connection yet. The pool keeps cfg, sets its PoolName to one that is unique in the process,
// and reserves that name until Close.
func New(cfg *settings.Config, hooks Hooks) (*Pool, error) {
	cfg.PoolName = reserveName(cfg.PoolName)
	p := &Pool{
		cfg:   cfg,
		hooks: hooks,
		diary: diary.New(diary.Options{
			Pool: cfg.PoolName, Logger: hooks.Logger, Echo: cfg.Echo, EchoPool: cfg.EchoPool, Slow: cfg.SlowQuery,
		}),
	}
	p.life, p.endLife = context.WithCancel(context.Background())
	p.silence.places = map[string]*silentPlace{}
	if cfg.DeadAfter <= 0 {
		p.silence.stop()
	}
	p.books.members, p.books.closings = map[*member]bool{}, map[string]int64{}
	p.places.all = map[string]*place{}
	p.places.epoch.Store(1)
	p.books.unknown, p.books.begun = map[link.Unknown]int64{}, map[string]int64{}
	p.queue = lease.NewQueue(cfg.PoolMin, cfg.Capacity(), maker{p})
	p.prober = diagnose.NewProber(view{p})
	p.plans = diagnose.NewPlans(p.prober)
	p.preflight = diagnose.NewPreflight(view{p})
	if cfg.Environment == settings.Development {
		p.repeats = repeats.New(p.diary.Repeated)
	}
	p.dialer = link.NewDialer(p.life, cfg, link.Hooks{
		Login: hooks.Login, LoginFailed: p.noteLoginFailure, LoginCame: p.loginCame,
		Notice: hooks.Notice, Dropped: p.noteDropped, Dial: hooks.Dial,
		AfterConnect: hooks.AfterConnect, Target: func(at net.Addr) *instruments.Target { return p.in.Target(at) },
		Tagged: hooks.Commenter != nil, HostChanged: p.hostChanged, Repeats: p.repeats,
		Run: p.tasks.run,
	})
	p.scout = p.newScout()
	p.moving = newMoving(p.dialer, usualPace)
	hooks.Telemetry.PoolName, hooks.Telemetry.Server = cfg.PoolName, serverOf(cfg)
	var err error
	if p.in, err = instruments.New(hooks.Telemetry, p.state); err != nil { // from here on state may be called
		p.endLife()
		releaseName(cfg.PoolName)
		return nil, fmt.Errorf("pgprod: instruments: %w", err)
	}
	p.shelf.keepFor, p.shelf.unshelve = p.shelfTime(), p.unshelve
	p.inner = p.newInner()
	p.diary.Settings(p.life, cfg.Warnings)
	return p, nil
}

// serverOf returns what the pool connects to, as telemetry has it.
func serverOf(cfg *settings.Config) instruments.Server {
	s := instruments.Server{Namespace: cfg.Namespace()}
	for _, h := range cfg.Hosts() {
		s.Hosts = append(s.Hosts, instruments.Host{Address: h.Host, Port: int(h.Port)})
	}
	return s
}

// Close sends waiting callers away, closes the idle connections, and waits a few seconds at most until dials and pings are
// over and the connections have said goodbye to the server. A connection that is lent is closed when it is given back. Close
// may be called more than once.
func (p *Pool) Close() error {
	if p.closed.Swap(true) {
		return nil
	}
	p.endLife()
	if p.scout != nil {
		p.scout.Stop()
	}
	p.prober.Close()
	p.queue.Close()
	for _, m := range p.shelf.close() {
		p.discard(m, "closed")
	}
	err := errors.Join(p.inner.Close(), p.in.Close())
	p.stopLeakWatch()
	p.retiring.stop()
	p.moving.stop()
	p.slow.stop()
	p.silence.stop()
	p.preflight.Close()
	p.plans.Close()
	p.tasks.wait()
	p.diary.Close()
	releaseName(p.cfg.PoolName)
	return err
}

// Recycle replaces all connections that exist, as if they had reached the age of pool_recycle: those that are idle by a task
// that it starts, and each of the others when it is given back. As after an outage, new ones are made as callers need them.
// The application's function for credentials is asked first, so that new connections log in with what it says now.
func (p *Pool) Recycle() {
	if !p.dialer.KeepsLogin() {
		p.recycle()
		return
	}
	p.tasks.run(func() { // bounded by the limit of a dial and by the pool's life
		p.dialer.RenewLogin(p.life)
		p.recycle()
	})
}

// recycle is Recycle once it is known what to log in with.
func (p *Pool) recycle() {
	now := clock.Now()
	p.trust.recycled.Store(now)
	p.prober.Renew()
	p.tasks.run(func() { p.sweep("lifetime", func(m *member) bool { return m.begun < now }) })
}

// sweep closes those idle connections that are outdated, for a reason of diary.Reasons. It is a task that invalidate,
// Recycle and retire start. It takes out all idle connections, the newer ones as well, since an outdated one may lie below
// them, and puts the newer ones back. A caller that borrows meanwhile gets a connection or waits until one is put back; prove
// looks at what it gets.
func (p *Pool) sweep(reason string, outdated func(*member) bool) {
	var newer []*member
	for p.queue.TryReserve() {
		m, err := p.takeIdle(p.life)
		if err != nil {
			p.queue.Unreserve()
			break
		}
		if !outdated(m) {
			newer = append(newer, m)
			continue
		}
		p.discard(m, reason)
		p.queue.Unreserve()
	}
	for _, m := range slices.Backward(newer) { // the one that was on top goes back last
		p.keepOrClose(m)
		p.queue.Unreserve()
	}
}

// suspect is called when the server didn't react to a cancel request, so that it may be dead: each connection on which it
// has not answered since must answer a ping before it is lent.
func (p *Pool) suspect() {
	p.trust.suspicion.Store(clock.Now())
	p.askHosts()
}
