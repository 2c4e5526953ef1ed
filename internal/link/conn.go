// Package link is one connection to the server: how it is made, what is under way on it, what became of that, and what was
// left behind in its session. It knows no pool; what others have to know it tells its Observer.
//
//	dialer.go     makes connections
//	password.go   what they log in with
//	dialerror.go  why one could not be made
//	conn.go       a connection: its parts, its life, pings
//	statement.go  the statement under way, as one value
//	trace.go      what pgx reports of each statement
//	exec.go       what a session has a connection do
//	tx.go         transactions, and what became of a COMMIT
//	rows.go       the rows of a query, and how they are read from Go 1.27 on
//	prepared.go   statements that were prepared and not executed yet
//	parameters.go how many parameters a text has
//	plans.go      whether what was prepared is up to date
//	text.go       what the beginning of a statement tells
//	leftovers.go  what a statement leaves behind in its session
//	visit.go      what one borrower has left there where nobody can use it
//	explain.go    what a statement's caller is told when it failed
//	notice.go     what the server says besides
//	panic.go      panics in the midst of a statement
package link

import (
	"context"
	"crypto/tls"
	"errors"
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

// An Observer is told what happens on a connection, by the goroutine that uses the connection, with no lock of this package
// held.
type Observer interface {
	// Ended is called once for each statement, when its outcome is known and it is not tried again. The statement is only
	// valid during the call.
	Ended(ctx context.Context, s *Statement)
	// Abandoned is called in place of Ended for a statement of which nobody will see the end.
	Abandoned(s *Statement)
	// Warned is called for each warning of the server. s is nil outside of statements.
	Warned(n *pgconn.Notice, s *Statement)
	// CommitUnknown is called for a COMMIT that was sent and not answered, because of err.
	CommitUnknown(err error)
	// Lost is called when the connection was lost by the server's doing, or its server is not the right one any more.
	Lost(cause error)
	// Silent is called when the server has not reacted to a cancel request.
	Silent()
}

// A Conn is one connection to the server. It is pgx's tracer as well, so that it knows of every statement, those that a
// caller of Raw sends past us included.
//
// It is used by one goroutine at a time, whoever has borrowed it: database/sql serialises the calls to a driver.Conn. What
// may be called at any time says so.
type Conn struct {
	dialer   *Dialer
	observer Observer
	target   *instruments.Target

	std   *stdlib.Conn
	pgx   *pgx.Conn
	pg    *pgconn.PgConn
	tap   *wire.Tap
	probe *wire.Probe
	guard *guard.Guard

	heard atomic.Int64 // by package clock: when the server has last answered, or the login was over
	dirty bool         // the session must not be used by anybody else

	depth   int // statements that pgx has begun and not ended: a prepare inside a query counts
	stmt    Statement
	attempt attempt
	tx      transaction
	raw     rawUse
	visit   visit

	prepared prepared
	doing    doing
}

// doing is what the connection is doing, or did last, for other goroutines to look at.
type doing struct {
	mu        sync.Mutex // guards what follows; nothing else is locked under it
	kind, sql string
}

// Target is telemetry's view of the server. It may be called at any time.
func (c *Conn) Target() *instruments.Target { return c.target }

// PID is the server's process. It may be called at any time.
func (c *Conn) PID() uint32 { return c.pg.PID() }

// Encrypted reports whether the connection has TLS.
func (c *Conn) Encrypted() bool {
	_, ok := c.pg.Conn().(*tls.Conn)
	return ok
}

// Heard is when the server has last answered, by package clock; before that, when the login was over. It may be called at
// any time.
func (c *Conn) Heard() int64 { return c.heard.Load() }

// Doing is the last statement, or the one under way. It may be called at any time.
func (c *Conn) Doing() (kind, sql string) {
	c.doing.mu.Lock()
	defer c.doing.mu.Unlock()
	return c.doing.kind, c.doing.sql
}

// State reports whether a statement is under way, or has been ended by command_timeout while its rows are not closed. It
// may be called at any time.
func (c *Conn) State() (running, rowsOpen bool) { return c.guard.State() }

// Busy reports whether rows are open, or something else is under way.
func (c *Conn) Busy() bool { return c.pg.IsBusy() }

// Closed reports whether the connection has been closed, by either end.
func (c *Conn) Closed() bool { return c.pg.IsClosed() }

// Broken reports whether the connection is of no use to anybody.
func (c *Conn) Broken() bool { return c.pg.IsClosed() || c.guard.Unacknowledged() }

// Dirty reports whether something happened on the connection for which nobody else must get it.
func (c *Conn) Dirty() bool { return c.dirty }

// Soil has Dirty report true from now on.
func (c *Conn) Soil() { c.dirty = true }

// Unfinished reports whether the session is in the midst of something, or has names that another borrower might use.
func (c *Conn) Unfinished() bool {
	return c.depth != 0 || c.pg.IsBusy() || c.pg.TxStatus() != 'I' || c.prepared.named
}

// MustProve reports whether the connection has to answer a ping before its next statement: a cancel request may be on its
// way to it.
func (c *Conn) MustProve() bool { return c.guard.Stale() }

// Look looks at the socket of an idle connection.
func (c *Conn) Look() wire.State { return c.probe.Peek() }

// Lent begins a visit. The borrower was given the connection at now, by package clock, after it had waited.
func (c *Conn) Lent(now int64, waited time.Duration) {
	c.attempt.lent, c.attempt.waited = now, waited
	c.doing.mu.Lock()
	defer c.doing.mu.Unlock()
	c.doing.kind, c.doing.sql = "", ""
}

// Returned ends a visit. What the borrower has not ended is abandoned.
func (c *Conn) Returned() {
	c.EndTx()
	c.abandon()
	c.prepared.unsettled = settled
}

// Stop is called when the connection is about to be closed, from any goroutine: nothing will be ended in time any more.
func (c *Conn) Stop() { c.guard.Stop() }

// HangUp ends the session on the server within closeTimeout.
func (c *Conn) HangUp() {
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

// Ping asks the server for an answer within limit, and ends in the given manner when ctx does.
func (c *Conn) Ping(ctx context.Context, limit time.Duration, how guard.Manner) error {
	if c.pg.IsBusy() {
		return c.pg.Ping(ctx) // which refuses; the guard is that of the rows that are open
	}
	c.forgetOutcome()
	c.guard.Begin(clock.Now(), 0, how)
	defer c.guard.End()
	_ = c.pg.Conn().SetDeadline(time.Now().Add(limit))
	err := c.pg.Ping(ctx)
	if pgerror.IsCanceled(err) && ctx.Err() == nil { // a cancel request that was still on its way has hit the ping
		err = c.pg.Ping(ctx)
	}
	if !c.pg.IsClosed() {
		_ = c.pg.Conn().SetDeadline(time.Time{})
	}
	if err == nil {
		c.guard.Answered()
		c.heard.Store(clock.Now())
	}
	return err
}

// Ask sends a question of our own by the protocol that every pooler knows, which is no statement that anybody is told of.
// Its context ends it in the given manner; nothing else does. It doesn't count as a sign of life.
func (c *Conn) Ask(ctx context.Context, question string, how guard.Manner) ([]*pgconn.Result, error) {
	c.guard.Begin(clock.Now(), 0, how)
	defer c.guard.End()
	return c.pg.Exec(ctx, question).ReadAll()
}

// Ready makes the connection safe for its next statement within the same session. A ping that ctx ends costs the
// connection.
func (c *Conn) Ready(ctx context.Context) error {
	switch {
	case c.pg.IsClosed():
		c.forgetOutcome()
		return pgconn.ErrConnClosed
	case c.guard.Stale() && !c.pg.IsBusy():
		return c.Ping(ctx, c.dialer.PingTimeout(), guard.HangingUp)
	}
	return nil
}

// PingTimeout bounds a ping.
func (d *Dialer) PingTimeout() time.Duration { return min(d.cfg.ConnectTimeout, 5*time.Second) }

// learn draws the conclusions of a failed statement for other connections.
func (c *Conn) learn(err error) {
	switch {
	case c.stmt.wasClosed: // what there was to learn was learnt when it was closed
	case c.tx.gaveUp: // it is we who have closed it
	case c.pg.IsClosed() && c.guard.Cut().Happened():
		c.observer.Silent()
	case c.pg.IsClosed() && pgerror.ServerLeaves(err):
		c.observer.Lost(c.Real(err))
	case c.demoted(err):
		c.observer.Lost(err)
	}
}

// demoted reports whether the server has stopped taking writes though it was chosen because it took them.
func (c *Conn) demoted(err error) bool {
	if !pgerror.IsReadOnly(err) || c.tx.readOnly || c.takesWrites() {
		return false
	}
	attrs := c.dialer.cfg.TargetSessionAttrs
	return attrs == "read-write" || attrs == "primary"
}

// takesWrites reports whether the server says so, which it does from version 14 on: then it is the transaction that was
// made read-only, by a statement.
func (c *Conn) takesWrites() bool {
	return c.pg.ParameterStatus("in_hot_standby") == "off" && c.pg.ParameterStatus("default_transaction_read_only") == "off"
}

var errSparing = errors.New("pgprod: no cancel request is sent while a COMMIT may be under way")
