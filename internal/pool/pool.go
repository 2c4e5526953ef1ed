// Package pool is the layer between the application's *sql.DB and the server.
//
// A session is what the application's *sql.DB takes for a connection. It has none until its first use: then it waits
// its turn in the queue (package lease), takes a connection from an inner *sql.DB, and keeps it until the
// application's *sql.DB puts the session away.
//
//	session.go    the driver.Conn that the application's *sql.DB holds
//	statement.go  prepared statements, which need no connection of their own
//	intx.go       transactions that are repeated when the server asks for it
//	shelf.go      the idle connections, before the inner *sql.DB
//	borrow.go     getting a connection, proving it, giving it back
//	conn.go       one connection to the server
//	leftovers.go  what a statement leaves behind in its session
//	notice.go     what the server says besides: notices, and its warnings in the log
//	unkept.go     warns of what was left in a session where nobody can use it
//	trace.go      what pgx reports of each statement, and what is made of it
//	report.go     what the diary, which writes the log, is told of a statement
//	log.go        and of failures to connect, to serve a caller, to stay connected
//	health.go     how the server and the pool are
//	inquiry.go    asks the server for that, over connections of its own
//	preflight.go  what is wrong with the server, the role or their settings
//	watch.go      what the live page shows
//	leak.go       who has a connection, and who has it for too long
//	dial.go       makes connections
//	password.go   what they log in with
//	errors.go     says what went wrong, in one line
//	stats.go      how full the pool is, for Status and for metrics
//	names.go      names of pools, each once in the process
//	rows_go1.27.go  how rows are read from Go 1.27 on
package pool

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/diary"
	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/lease"
	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/settings"
	"github.com/pgprod/pgprod/internal/sqlcomment"
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
	cfg         *settings.Config // not changed after New
	hooks       Hooks
	queue       *lease.Queue
	inner       *sql.DB
	pingTimeout time.Duration
	life        context.Context // ends with Close, and with it the pings under way
	end         context.CancelFunc
	usesTLS     bool                           // with some host
	lastTLS     atomic.Pointer[pgx.ConnConfig] // the last whose certificates could be read; nil until the first dial

	generation atomic.Uint64 // connections of an older one are not lent again
	schema     atomic.Uint64 // counts the changes of the schema that the pool has seen
	suspicion  atomic.Int64  // by clock.Now(); a connection not heard of since must answer a ping before it is lent
	closed     atomic.Bool
	counts     parameterCounts
	inTx       inTx
	in         *instruments.Instruments
	server     instruments.Server // the first that the DSN names
	overflows  atomic.Int64       // connections opened beyond pool_size

	diary     *diary.Diary
	stacks    stackBudget
	passwords passwordCalls
	doubts    pgerror.Doubts
	shelf     shelf
	shelfTime time.Duration // how long an unused connection stays there
	entrance  entrance
	size      atomic.Int64 // connections that exist
	overflow  sync.Mutex   // is held from counting the idle connections to keeping one more, or taking one out
	tasks     tasks
	prober    prober
	preflight preflight
	watch     watch

	mu        sync.Mutex     // guards what follows
	conns     map[*conn]bool // all that exist
	closings  map[string]int64
	leaked    int64       // checkouts that were held beyond leak_detection and came back
	leakTimer *time.Timer // calls lookForLeaks; nil while there is no connection
	targets   map[instruments.Server]*instruments.Target
}

// New returns a pool that has no connection yet. It takes over cfg.
func New(cfg *settings.Config, hooks Hooks) (*Pool, error) {
	p := &Pool{
		cfg:         cfg,
		hooks:       hooks,
		pingTimeout: min(cfg.ConnectTimeout, 5*time.Second),
		server: instruments.Server{Address: cfg.Conn.Host, Port: int(cfg.Conn.Port),
			Namespace: cmp.Or(cfg.Conn.Database, cfg.Conn.User)}, // the server takes the user's name for one that isn't given
		conns:    map[*conn]bool{},
		closings: map[string]int64{},
		targets:  map[instruments.Server]*instruments.Target{},
		diary: diary.New(diary.Options{
			Pool: cfg.PoolName, Logger: hooks.Logger, Echo: cfg.Echo, EchoPool: cfg.EchoPool, Slow: cfg.SlowQuery,
		}),
	}
	p.prober.news = make(chan struct{}, 1)
	hooks.Telemetry.PoolName = cfg.PoolName
	var err error
	if p.in, err = instruments.New(hooks.Telemetry, p.state); err != nil {
		releaseName(cfg.PoolName)
		return nil, fmt.Errorf("pgprod: instruments: %w", err)
	}
	p.life, p.end = context.WithCancel(context.Background())
	p.usesTLS = cfg.Conn.TLSConfig != nil
	for _, f := range cfg.Conn.Fallbacks {
		p.usesTLS = p.usesTLS || f.TLSConfig != nil
	}
	p.queue = lease.NewQueue(cfg.Capacity(), p)
	p.shelfTime = p.onShelf()
	p.inner = p.newInner()
	p.diary.Settings(p.life, cfg.Warnings)
	return p, nil
}

// Config returns the settings in force. They must not be changed.
func (p *Pool) Config() *settings.Config { return p.cfg }

// Close sends waiting callers away, closes idle connections and waits for dials, pings and goodbyes, a few seconds at
// most. A connection in use is closed when it is given back. Close may be called more than once.
func (p *Pool) Close() error {
	if p.closed.Swap(true) {
		return nil
	}
	p.end()
	p.closeProber()
	p.queue.Close()
	for _, c := range p.shelf.close() {
		p.discard(c, "closed")
	}
	err := errors.Join(p.inner.Close(), p.in.Close())
	p.stopTimers()
	p.tasks.wait()
	p.diary.Close()
	releaseName(p.cfg.PoolName)
	return err
}

// stopTimers is called by Close. What they have begun is among the tasks.
func (p *Pool) stopTimers() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, timer := range []*time.Timer{p.leakTimer, p.preflight.timer} {
		if timer != nil {
			timer.Stop()
		}
	}
}

// invalidate is called when a connection of the given generation was lost: none as old as that is lent again, and those
// that are idle are closed at once. A late error of an older generation changes nothing.
func (p *Pool) invalidate(generation uint64, cause error) {
	if !p.generation.CompareAndSwap(generation, generation+1) {
		return
	}
	p.lost(cause)
	p.tasks.run(func() { p.sweep(generation) })
}

// sweep closes the idle connections of a generation and of those before it. All that are idle are taken out for a moment,
// the newer ones included, since an older one may lie below them. Who borrows meanwhile gets a connection or waits for one
// to be put back, and looks at its generation in any case.
func (p *Pool) sweep(generation uint64) {
	var newer []*conn
	for p.queue.TryAcquire() {
		c, err := p.takeIdle(p.life)
		if err != nil {
			p.queue.ReleaseAside()
			break
		}
		if c.generation > generation {
			newer = append(newer, c)
			continue
		}
		p.discard(c, "invalid")
		p.queue.ReleaseAside()
	}
	for _, c := range slices.Backward(newer) { // in the order in which they lay there
		p.keepOrClose(c)
		p.queue.ReleaseAside()
	}
}

// suspect is called when the server didn't answer a cancel request: every connection has to prove itself.
func (p *Pool) suspect() { p.suspicion.Store(clock.Now()) }
