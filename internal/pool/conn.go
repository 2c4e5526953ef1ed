package pool

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/wire"
)

// A conn is one connection to the server: what the inner *sql.DB keeps and a session borrows. It is pgx's tracer as
// well, so that it knows of every statement, those that a caller of Raw sends past us included.
//
// A conn is used by whoever has borrowed it, one goroutine at a time: database/sql serialises the calls to a driver.Conn.
// The exceptions are named where they are: the ping of a connection that is to be lent, which may outlast its caller; the
// guard's timer and pgx's watcher of contexts, which touch only the guard; and held, which has a mutex.
type conn struct {
	pool *Pool
	std  *stdlib.Conn
	pgx  *pgx.Conn
	pg   *pgconn.PgConn

	tap   *wire.Tap
	probe *wire.Probe
	guard *guard.Guard

	generation uint64
	expires    int64        // by clock.Now(); 0: never
	dialled    int64        // by clock.Now(): when it was made
	proven     atomic.Int64 // by clock.Now(): when the server was last heard. Its user writes it, any goroutine may read it
	returned   int64        // by clock.Now(): when it was last given back, or made
	fresh      bool         // not lent yet
	condemned  string       // why it must not be lent again, "" while it may
	closing    string       // why it is being closed, "" while it is not
	handle     *sql.Conn    // what holds it in the inner *sql.DB while it is not idle there

	mu   sync.Mutex // guards held
	held holding    // who has the connection, for other goroutines to look at

	visit visit // what the borrower has done, see unkept.go

	server instruments.Server
	target *instruments.Target
	op     instruments.Operation // the outermost statement
	asked  time.Time             // when the last prepare began
	names  map[string][]string   // hosts by the addresses that they resolved to

	inquiry  *inquiry // a health check's, which it was made for: it is outside the pool, and never lent; nil: the pool's
	anywhere bool     // such a one, to whatever server answers

	preparing string // the text of the last prepare

	depth      int           // statements that pgx has begun and not ended: a prepare inside a query counts
	sql        string        // of the outermost, or the last
	what       string        // it is, where its text doesn't tell: PREPARE, BATCH, COPY "table"
	copies     bool          // the outermost is a COPY
	args       []any         // of the query under way, as pgx has them
	cached     bool          // the query that failed is of those that pgx keeps: prepared, or described
	anew       bool          // the statement under way was not there yet: pgx had the server prepare it
	cutAfter   time.Duration // how long it had run when it was cut short; 0: not known
	cutReading bool          // its first rows had arrived by then, and the caller had not closed them

	began     int64         // by clock.Now(): the outermost
	mark      int64         // of the tap, then
	wasClosed bool          // then
	gaveUp    bool          // the connection was closed since its transaction could not be ended
	lentAt    int64         // by clock.Now(): just now, for the statement that is about to begin; 0: look at the clock
	mayRebind bool          // the session tries another connection if nothing was sent
	mayReplan bool          // the session asks again if what pgx has prepared is outdated
	waited    time.Duration // for the connection, until the first statement has been reported
	reading   bool          // rows of the present statement have been handed to the caller
	cause     error         // the last error that pgx reported, where stdlib says only driver.ErrBadConn
	readOnly  bool          // inside a transaction that was begun as read-only
	txOpen    bool          // inside a transaction that the session began and no statement of its own has ended
	commits   bool          // the statement is a COMMIT
	tag       string        // the command tag of the last statement, "" if it had none

	unconfirmed     *pgconn.PgError // the server's warning that the statement is committed here and by no synchronous standby
	lentUnconfirmed *pgconn.PgError // the last of those since the connection was lent to a caller of Raw
	lentCut         fate            // of the last statement that was cut short since the connection was lent to a caller of Raw

	plans plans

	unadopted       []unadopted // see statement.go
	alreadyPrepared bool        // what pgx said of the last Prepare
	batched         bool        // a batch ran: pgx's cache holds what Prepare doesn't know of
}

var (
	_ driver.Conn      = (*conn)(nil)
	_ driver.Validator = (*conn)(nil)
)

// Prepare and Begin complete driver.Conn; the inner *sql.DB is never asked for a statement.
func (c *conn) Prepare(string) (driver.Stmt, error) { return nil, driver.ErrSkip }

// Begin is not used, see Prepare.
func (c *conn) Begin() (driver.Tx, error) { return nil, driver.ErrSkip }

// IsValid is asked by the inner *sql.DB when it gets the connection back.
func (c *conn) IsValid() bool { return c.closing == "" }

// discard closes a connection that its caller has taken from the shelf, was lent, or has dialled. The reason is one of
// those that metrics know. No lock must be held, since the application's log is written to.
func (p *Pool) discard(c *conn, reason string) {
	p.writeOff(c, reason)
	_ = c.handle.Close() // which calls (*conn).Close, since the connection isn't valid any more
}

// writeOff takes a connection out of the pool's books. Its caller closes it. The pool's locks may be held.
func (p *Pool) writeOff(c *conn, reason string) {
	c.closing = reason
	c.guard.Stop()
	p.forget(c, reason)
	p.queue.Closed()
}

// Close implements driver.Conn. It is called once for each connection: by discard, or by the inner *sql.DB when an idle
// connection's time is up. It doesn't wait for the network: whoever gives a connection back, or waits for a place, has no
// part in how long the server takes to say goodbye.
func (c *conn) Close() error {
	if c.closing == "" {
		c.pool.writeOff(c, c.timeIsUp())
	}
	c.pool.diary.Closed(c.pg.PID(), c.closing)
	c.pool.tasks.run(c.hangUp)
	return nil
}

// timeIsUp is why the inner *sql.DB has closed an idle connection.
func (c *conn) timeIsUp() (reason string) {
	p, now := c.pool, clock.Now()
	switch {
	case p.closed.Load():
		return "closed"
	case c.expired(now):
		return "lifetime"
	case p.cfg.PoolIdleTimeout > 0 && now-c.returned >= int64(p.cfg.PoolIdleTimeout):
		return "idle"
	default:
		return "overflow"
	}
}

// hangUp ends the session on the server within closeTimeout.
func (c *conn) hangUp() {
	const closeTimeout = time.Second
	if !c.pg.IsClosed() {
		_ = c.pg.Conn().SetDeadline(time.Now().Add(closeTimeout))
		// Not the background context, for which pgx would go on to watch the last caller's.
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		_ = c.pg.Close(ctx)
		return
	}
	// pgx is closing it in a goroutine of its own, which takes up to 15 seconds if nobody hurries it.
	t := time.NewTimer(closeTimeout)
	defer t.Stop()
	select {
	case <-c.pg.CleanupDone():
	case <-t.C:
		_ = c.pg.Conn().Close()
	}
}

// verdict says why the connection must not be lent again, or "".
func (c *conn) verdict(now int64) string {
	switch {
	case c.condemned != "":
		return c.condemned
	case c.pg.IsClosed() || c.generation != c.pool.generation.Load() || c.guard.Unacknowledged():
		return "invalid"
	case c.depth != 0 || c.pg.IsBusy() || c.pg.TxStatus() != 'I' || c.plans.named:
		return "dirty"
	case c.expired(now):
		return "lifetime"
	}
	return ""
}

func (c *conn) expired(now int64) bool { return c.expires > 0 && now > c.expires }

// ping asks the server for an answer within limit, and ends in the given manner when ctx does. A cancel request that was
// still on its way hits the ping.
func (c *conn) ping(ctx context.Context, limit time.Duration, how guard.Manner) error {
	if c.pg.IsBusy() {
		return c.pg.Ping(ctx) // which refuses; the guard is that of the rows that are open
	}
	c.forgetOutcome()
	c.guard.Begin(clock.Now(), 0, how)
	defer c.guard.End()
	_ = c.pg.Conn().SetDeadline(time.Now().Add(limit))
	err := c.pg.Ping(ctx)
	if pgerror.IsCanceled(err) && ctx.Err() == nil {
		err = c.pg.Ping(ctx)
	}
	if !c.pg.IsClosed() {
		_ = c.pg.Conn().SetDeadline(time.Time{})
	}
	if err == nil {
		c.guard.Answered()
		c.proven.Store(clock.Now())
	}
	return err
}

// ready makes the connection safe for its next statement within the same session. A ping that ctx ends costs the
// connection.
func (c *conn) ready(ctx context.Context) error {
	switch {
	case c.pg.IsClosed():
		c.forgetOutcome()
		return pgconn.ErrConnClosed
	case c.guard.Stale() && !c.pg.IsBusy():
		return c.ping(ctx, c.pool.pingTimeout, guard.HangingUp)
	}
	return nil
}

// forgetOutcome forgets what became of the last statement, for what comes next and is none: its errors are its own.
func (c *conn) forgetOutcome() {
	c.guard.Forget()
	c.cutAfter, c.cutReading = 0, false
	c.tag, c.unconfirmed, c.commits = "", nil, false
}

// bound begins the time of something that pgx doesn't trace, as if it were a statement. c.guard.End must follow.
func (c *conn) bound() {
	c.cutAfter, c.cutReading = 0, false
	c.guard.Begin(clock.Now(), c.pool.cfg.CommandTimeout, guard.Cancelling)
}

// now is the time, which needs no other look at the clock for the statement that the connection was lent for.
func (c *conn) now() int64 {
	if now := c.lentAt; now != 0 {
		c.lentAt = 0
		return now
	}
	return clock.Now()
}

// begin and end frame whatever pgx does at a caller's request.
func (c *conn) begin(what, sql string) {
	if c.depth++; c.depth == 1 {
		c.what, c.sql, c.copies, c.cached, c.anew, c.cause = what, sql, false, false, false, nil
		c.began, c.mark, c.wasClosed = c.now(), c.tap.Mark(), c.pg.IsClosed()
		c.tag, c.unconfirmed, c.commits = "", nil, what == "" && commits(sql)
		how := guard.Cancelling
		if c.commits {
			how = guard.Waiting
		}
		c.cutAfter, c.cutReading = 0, false
		c.guard.Begin(c.began, c.pool.cfg.CommandTimeout, how)
		c.visit.began(what, sql)
		c.mu.Lock()
		c.held.what, c.held.sql = what, sql
		c.mu.Unlock()
	}
}

func (c *conn) end(ctx context.Context, tag pgconn.CommandTag, err error) {
	if c.depth == 0 {
		return // pgx reports the end of a batch twice when it fails early
	}
	if err != nil {
		c.cause = err // even of one within another: a query is refused while the rows of the last are open
	}
	if c.depth--; c.depth > 0 {
		return
	}
	c.guard.End()
	c.tag = tag.String()
	if c.guard.Cut().Happened() {
		c.cutOff()
	}
	if c.unconfirmed != nil {
		c.lentUnconfirmed = c.unconfirmed
	}
	if !c.pg.IsClosed() && c.pg.TxStatus() == 'I' {
		c.txOpen = false
	}
	now := clock.Now()
	if pgerror.ServerAnswered(err) && !c.pg.IsClosed() {
		c.proven.Store(now)
	}
	c.report(ctx, tag, err, time.Duration(now-c.began))
	if err != nil {
		c.learn(err)
	}
	if leavesTraces(tag.String(), c.sql) { // of several statements the first may have, though the last failed
		c.condemned = "dirty"
	}
}

// abandon ends what pgx has begun and not ended: a panic of the application's came between (in a driver.Valuer, a codec,
// a tracer), a function that the connection was lent to left rows or a batch open, or pgx doesn't tell of a failure.
// Otherwise the guard would go on and end the statements of others, and the span would never end. It costs the connection.
func (c *conn) abandon() {
	if c.depth == 0 && !c.op.Pending() {
		return
	}
	c.depth = 0
	c.condemned = "dirty"
	c.guard.End()
	c.op.End(context.Background(), -1, instruments.ErrAbandoned, "")
	c.wasAbandoned()
}

// learn draws the conclusions of a failed statement for the pool.
func (c *conn) learn(err error) {
	switch {
	case c.wasClosed: // what there was to learn was learnt when it was closed
	case c.gaveUp: // it is we who have closed it
	case c.pg.IsClosed() && c.guard.Cut().Happened():
		c.pool.suspect()
	case c.pg.IsClosed() && pgerror.ServerLeaves(err):
		c.pool.invalidate(c.generation, c.real(err))
	case c.demoted(err):
		c.condemned = "invalid"
		c.pool.invalidate(c.generation, err)
	}
}

// demoted reports whether the server has stopped taking writes though it was chosen because it took them.
func (c *conn) demoted(err error) bool {
	if !pgerror.IsReadOnly(err) || c.readOnly || c.takesWrites() {
		return false
	}
	attrs := c.pool.cfg.TargetSessionAttrs
	return attrs == "read-write" || attrs == "primary"
}

// takesWrites reports whether the server says so, which it does from version 14 on: then it is the transaction that was
// made read-only, by a statement.
func (c *conn) takesWrites() bool {
	return c.pg.ParameterStatus("in_hot_standby") == "off" && c.pg.ParameterStatus("default_transaction_read_only") == "off"
}
