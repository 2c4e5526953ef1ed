// Package link is one connection to the server: how it is made, which statement is under way on it, what became of that, and
// what was left behind in its session. It knows no pool, and reports to its Observer what others have to know.
//
//	dialer.go         makes connections
//	race.go           a dial as a race between the hosts
//	order.go          whose turn it is in a race, and when it is over
//	lane.go           one host in a race
//	resolve.go        its addresses
//	paths.go          what is remembered of hosts and addresses for the order in which they are tried
//	search.go         one dial asks all hosts, the others wait
//	validate.go       whether a server is what is wanted
//	failures.go       what all hosts have said, as one error
//	login.go          what they log in with
//	dialfunc.go       network connections by the application's dial function
//	given.go          the functions of a configuration of pgx's that was given in code
//	afterconnect.go   what the application's function does on a new connection
//	dropped.go        what a pooler refuses of it, and can be dropped
//	dialerror.go      why a connection could not be made
//	conn.go           Conn: its parts, its state, pings, its end
//	silence.go        whether the server still says anything, for those who look from outside
//	knock.go          whether somebody answers at an address
//	keepalive.go      how the system finds out that a network connection is dead
//	doing.go          what is under way, and what it was found to wait for, for those who look from outside
//	backend.go        which of the server's processes serves the connection
//	statement.go      the statement under way, as one value
//	trace.go          the calls of pgx's tracer, at the begin and the end of each statement
//	profiling.go      what execution traces and CPU profiles get to know of statements
//	count.go          how many statements run under a context, and which of them repeat
//	exec.go           how a session has statements executed
//	again.go          whether a statement that has failed may be tried again
//	tx.go             transactions
//	commit.go         what became of a COMMIT
//	once.go           the key of a transaction that is to be committed once
//	rows.go           the rows of a query
//	rows_go1.27.go    how database/sql reads rows from Go 1.27 on
//	prepared.go       statements that were prepared and not executed yet
//	warm.go           what a new connection prepares before anybody waits for it
//	uses.go           which statements are used most
//	parameters.go     how many parameters a text has
//	plans.go          whether prepared statements are up to date with the schema
//	text.go           what the beginning of a statement's text shows
//	ride.go           what travels in front of a statement: BEGIN, settings, cleaning, trace context
//	limit.go          how long a statement may take, by its context
//	ctxsettings.go    the settings that a context brings for its statements
//	cleaning.go       what a borrower has left in the session, and how that is undone
//	tracecontext.go   a statement's trace context as application_name
//	visit.go          whether a borrower has left something where nobody can use it
//	explain.go        the errors that a statement's caller gets
//	remains.go        what a statement leaves behind that was cut short
//	notice.go         notices of the server
//	panic.go          panics in the middle of a statement
package link

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/credentials"
	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/hosts"
	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/settings"
	"github.com/pgprod/pgprod/internal/wire"
)

// An Observer receives what happens on a connection. Its methods are called by the goroutine that uses the connection, while
// no lock of this package is held.
type Observer interface {
	// Ended is called once for each statement, when it is over and is not tried again. ctx has its span. s is valid only
	// during the call.
	Ended(ctx context.Context, s *Statement)
	// Abandoned is called in place of Ended for a statement that pgx will never report the end of.
	Abandoned(s *Statement)
	// Warned is called for each warning of the server. s is the statement under way, nil if there is none.
	Warned(n *pgconn.Notice, s *Statement)
	// CommitUnknown is called, once, for a COMMIT, or a statement outside of a transaction, of which it isn't known for this
	// reason whether it is committed, or committed for good. err is the cause. If the transaction has a key, it isn't called.
	CommitUnknown(why Unknown, err error)
	// Lost is called when the server has ended the connection c in a way that concerns its other connections too, or when it
	// doesn't take writes any more though target_session_attrs asks for that.
	Lost(c *Conn, cause error)
	// Silent is called when the server has not reacted to a cancel request.
	Silent()
}

// A Conn is one connection to the server. It is also the tracer of its pgx.Conn, so that it knows of every statement, those
// included that a caller of Raw sends by pgx.
//
// It is used by one goroutine at a time: that of its borrower, whose calls database/sql serialises, or that of the pool
// while it is idle. Methods that other goroutines may call say that they may be called at any time.
type Conn struct {
	dialer   *Dialer
	observer Observer
	target   *instruments.Target
	login    *credentials.Issue // what it was made with; not changed
	host     *hosts.Host        // what it was made to; not changed
	saysRole bool               // what the server reports of its role is to be believed; not changed

	std   *stdlib.Conn   // pgx as a driver.Conn; it contains the next one
	pgx   *pgx.Conn      // contains the next one
	pg    *pgconn.PgConn // the connection itself
	tap   *wire.Tap      // between pg and the network: what was written and read
	probe *wire.Probe    // looks at the socket
	guard *guard.Guard   // ends statements in time

	backend backend // the server's process, as those know it who ask the server

	heard atomic.Int64 // by package clock: when the server last answered on it; before that, when the login was over
	dirty bool         // the session was changed or left in an unknown state: nobody else must get the connection

	depth   int         // how many calls of begin wait for their end: 2 during a prepare within a query
	stmt    Statement   // the statement under way if depth > 0, else the last one
	attempt attempt     // what is known before the next statement begins
	ride    ride        // what travels in front of the statement under way
	tx      transaction // the transaction under way
	raw     rawUse      // what happened since Raw was called
	visit   visit       // what the borrower has done so far
	session session     // what is known of the session's state
	setup   setup       // what the application's functions have done when the connection was made

	kept      []settings.Setting // greeting.kept, and what these functions have set
	encrypted bool               // there is TLS below what the application's AfterNetConnect has returned

	prepared prepared // what was prepared on the connection
	doing    doing    // the last statement, for other goroutines
}

// Target returns telemetry's view of the server. It may be called at any time.
func (c *Conn) Target() *instruments.Target { return c.target }

// Host returns the host of the DSN that it is a connection to. It may be called at any time.
func (c *Conn) Host() *hosts.Host { return c.host }

// PID returns the id of the server's process that serves the connection. It may be called at any time.
func (c *Conn) PID() uint32 { return c.pg.PID() }

// Encrypted reports whether the connection has TLS, be it that of the application's dial function.
func (c *Conn) Encrypted() bool {
	return c.encrypted || wire.Encrypted(c.pg.Conn())
}

// Heard returns when the server has last answered, by package clock, or when the login was over if it has not answered
// since. It may be called at any time.
func (c *Conn) Heard() int64 { return c.heard.Load() }

// State reports whether a statement is under way, or has been ended by command_timeout while its rows are not closed. It
// may be called at any time.
func (c *Conn) State() (running, rowsOpen bool) { return c.guard.State() }

// Busy reports whether pgx is busy with something on the connection: rows that are open, as a rule.
func (c *Conn) Busy() bool { return c.pg.IsBusy() }

// Closed reports whether the connection has been closed, by either end.
func (c *Conn) Closed() bool { return c.pg.IsClosed() }

// Broken reports whether the connection can't be used any more: it is closed or severed, or a cancel request that the server
// has not acknowledged may hit any later statement.
func (c *Conn) Broken() bool {
	return c.pg.IsClosed() || c.guard.Unacknowledged() || c.tap.Severed() != nil
}

// Dirty reports whether nobody else must get the connection, because its session was changed or is in an unknown state.
func (c *Conn) Dirty() bool { return c.dirty }

// Soil makes the connection dirty.
func (c *Conn) Soil() { c.dirty = true }

// Unfinished reports whether a statement or a transaction is open, or a caller of Raw has prepared statements by name, which
// another borrower's names could collide with.
func (c *Conn) Unfinished() bool {
	return c.depth != 0 || c.pg.IsBusy() || c.pg.TxStatus() != 'I' || c.prepared.named
}

// MustProve reports whether the connection has to answer a ping before its next statement, because a cancel request for an
// earlier one may still be on its way.
func (c *Conn) MustProve() bool { return c.guard.Stale() }

// Look looks at the socket of an idle connection, without reading and without a round trip: whether the other end has closed
// it, or something waits to be read.
func (c *Conn) Look() wire.State { return c.probe.Peek() }

// BeginVisit is called when a borrower gets the connection, at now by package clock, after it has waited for that long. A
// visit lasts until EndVisit.
func (c *Conn) BeginVisit(now int64, waited time.Duration) {
	c.attempt.borrowedAt, c.attempt.waited, c.attempt.borrowedMark = now, waited, c.tap.Mark()
	c.doing.note("", "", 0)
}

// EndVisit is called when the borrower gives the connection back. A statement that the borrower has not ended is abandoned,
// which makes the connection dirty.
func (c *Conn) EndVisit() {
	c.EndTx()
	c.abandon()
	c.prepared.unsettled = settled
	c.raw.lent = false
	c.endSession()
}

// Stop is called when the connection is about to be closed: the guard ends no statement on it any more. It may be called at
// any time.
func (c *Conn) Stop() { c.guard.Stop() }

// HangUp says goodbye to the server and closes the connection, or hastens pgx where it is closing the connection already. It
// returns within closeTimeout.
func (c *Conn) HangUp() {
	const closeTimeout = time.Second
	if !c.pg.IsClosed() {
		_ = c.pg.Conn().SetDeadline(time.Now().Add(closeTimeout))
		// A context that can end: for context.Background(), pgx would not stop watching the last caller's context.
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		_ = c.pg.Close(ctx)
		return
	}
	// pgx is closing it in a goroutine of its own, which may take 15 seconds. After closeTimeout its socket is closed here.
	t := time.NewTimer(closeTimeout)
	defer t.Stop()
	select {
	case <-c.pg.CleanupDone():
	case <-t.C:
		_ = c.pg.Conn().Close()
	}
}

// Ping asks the server for an answer, and returns an error if there is none within limit. If ctx ends, the ping is ended in
// the given manner. A ping that was answered proves that no cancel request is on its way any more.
func (c *Conn) Ping(ctx context.Context, limit time.Duration, how guard.Manner) error {
	if c.pg.IsBusy() {
		return c.pg.Ping(ctx) // pgx refuses it; the guard must go on for the rows that are open
	}
	c.forgetOutcome()
	c.doing.noStatement()
	c.guard.Begin(clock.Now(), 0, how)
	defer c.guard.End()
	_ = c.pg.Conn().SetDeadline(time.Now().Add(limit))
	err := c.pg.Ping(ctx)
	if pgerror.IsCanceled(err) && ctx.Err() == nil { // a cancel request for an earlier statement has hit the ping
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

// Ask sends a question of our own by the simple protocol, which every pooler knows. It is not a Statement: it is not
// reported and has no span. Only the end of ctx ends it, in the given manner. Heard doesn't change when it is answered.
func (c *Conn) Ask(ctx context.Context, question string, how guard.Manner) ([]*pgconn.Result, error) {
	c.doing.noStatement()
	c.guard.Begin(clock.Now(), 0, how)
	defer c.guard.End()
	return c.pg.Exec(ctx, question).ReadAll()
}

// Parse has the server parse a text, by the extended protocol, and look up what it names, without executing it. The
// server refuses a text with several statements. Otherwise it is as Ask.
func (c *Conn) Parse(ctx context.Context, text string, how guard.Manner) error {
	c.doing.noStatement()
	c.guard.Begin(clock.Now(), 0, how)
	defer c.guard.End()
	_, err := c.pg.Prepare(ctx, "", text, nil)
	return err
}

// Ready is called before the next statement of the same borrower's. It returns an error if the connection is closed. If a
// cancel request may be on its way, it pings the server first. If ctx ends during the ping, the connection is closed.
func (c *Conn) Ready(ctx context.Context) error {
	c.NoteAttempt()
	switch {
	case c.pg.IsClosed():
		c.forgetOutcome()
		return pgconn.ErrConnClosed
	case c.guard.Stale() && !c.pg.IsBusy():
		return c.Ping(ctx, c.dialer.PingTimeout(), guard.HangingUp)
	}
	return nil
}

// learn is called when a statement has failed. It reports to the observer what that means for other connections: the server
// didn't react to a cancel request, it has ended the connection, or it doesn't take writes any more.
func (c *Conn) learn(err error) {
	switch {
	case c.stmt.wasClosed: // its loss was reported when it was closed
	case c.tx.gaveUp: // we have closed it, see giveUp
	case c.pg.IsClosed() && c.guard.Cut().Happened():
		c.observer.Silent()
	case c.pg.IsClosed() && pgerror.ServerLeaves(err):
		c.observer.Lost(c, c.Real(err))
	case c.demoted(err):
		c.observer.Lost(c, err)
	}
}

// demoted reports whether err shows that the server doesn't take writes any more, though target_session_attrs asks for one
// that does: a failover has made it a standby.
func (c *Conn) demoted(err error) bool {
	if !pgerror.IsReadOnly(err) || c.tx.readOnly || c.takesWrites() {
		return false
	}
	attrs := c.dialer.cfg.TargetSessionAttrs
	return attrs == "read-write" || attrs == "primary"
}

// takesWrites reports whether the server says that it takes writes, as servers do from version 14 on. Then a statement was
// refused because its transaction is read-only.
func (c *Conn) takesWrites() bool { return c.Role() == hosts.Primary }

// Role returns what the server has last said that it is; hosts.NoRole: it doesn't say, as before version 14, or a pooler is in
// between, which may repeat what was said long ago.
func (c *Conn) Role() hosts.Role {
	if !c.saysRole {
		return hosts.NoRole
	}
	return reportedRole(c.pg)
}

// errSparing is why a cancel request of pgx's own is not sent, see dialToCancel.
var errSparing = errors.New("pgprod: no cancel request is sent while a COMMIT may be under way")
