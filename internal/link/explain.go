package link

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/pgerror"
)

// ErrLost stands for the loss of a connection of which nothing more is known.
var ErrLost = errors.New("connection lost")

// prefix is what the errors of a pool's connections begin with.
func (d *Dialer) prefix() string { return "pgprod: pool " + d.cfg.PoolName + ": " }

// explained is an error whose text isn't put together from those of its causes.
type explained struct {
	text   string
	causes []error // none is nil
}

func (e *explained) Error() string { return e.text }

// Unwrap returns the causes.
func (e *explained) Unwrap() []error { return e.causes }

// AlreadyEnded is the error of a call whose context has ended before anything was done, nil if it hasn't.
func AlreadyEnded(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		return nil
	}
	return &explained{text: "pgprod: nothing was sent: " + err.Error(), causes: pgerror.OfContext(err)}
}

// Real is what went wrong on the connection, where stdlib says only driver.ErrBadConn, which must not reach database/sql,
// and pgx that the connection is closed.
func (c *Conn) Real(err error) error {
	if errors.Is(err, driver.ErrBadConn) {
		err = ErrLost
		if c.stmt.outcome.cause != nil {
			err = c.stmt.outcome.cause
		}
	}
	if lost := c.tap.Err(); lost != nil && (err == ErrLost || errors.Is(err, pgconn.ErrConnClosed)) {
		return lost
	}
	return err
}

// Explain turns a statement's error into the one that the caller gets: the server's as it is, unless command_timeout or
// the caller's context was the reason; otherwise with what is known about whether the statement ran. unsent says that not a
// byte of it was written.
func (c *Conn) Explain(err error, unsent bool) error {
	err = c.Real(err)
	switch {
	case c.depth > 0:
		return err // refused, since the rows of another statement are open, which the guard is concerned with
	case c.stmt.commits || !c.Confirmed():
		return c.commitOutcome(err, unsent)
	}
	if cut := c.cutShort(err, c.fate()); cut != nil {
		return cut
	}
	if !c.pg.IsClosed() {
		return err
	}
	return c.explainLoss(err, unsent)
}

// explainLoss says what is known of a statement that was under way when the connection was lost. In a transaction that is
// much: without a COMMIT it is rolled back.
func (c *Conn) explainLoss(err error, unsent bool) error {
	ended := pgerror.From(err) != nil
	switch {
	case c.tx.open && ended:
		return c.rolledBack("the server ended the session, the transaction is rolled back", err)
	case c.tx.open && unsent:
		return c.rolledBack("the connection was lost before the statement was sent, the transaction is rolled back", err)
	case c.tx.open:
		return c.rolledBack("the connection was lost after the statement was sent, the transaction is rolled back", err)
	case ended:
		return err
	case unsent:
		return fmt.Errorf("%sthe connection was lost before the statement was sent: %w", c.dialer.prefix(), err)
	}
	return fmt.Errorf("%sthe connection was lost after the statement was sent, whether it ran is unknown: %w", c.dialer.prefix(), err)
}

// explainRaw is Explain for what a caller of Raw returned: its own error, unless pgx's is in it for a statement that was cut
// short.
func (c *Conn) explainRaw(err error) error {
	network, _ := errors.AsType[net.Error](err)
	if pgerror.From(err) != nil || network != nil && network.Timeout() {
		if cut := c.cutShort(err, c.raw.cut); cut != nil {
			return cut
		}
	}
	return err
}

// fate is what cut a statement short, if anything did.
type fate struct {
	guard.Cut
	after   time.Duration // it had run for; 0: not known
	reading bool          // its first rows had arrived, and the caller had not closed them
}

// fate is that of the last statement, or of the present one.
func (c *Conn) fate() fate {
	return fate{c.guard.Cut(), c.stmt.outcome.cutAfter, c.stmt.outcome.cutReading}
}

// byCaller says how the caller ended a statement.
func (f fate) byCaller() string {
	what := "the caller cancelled the statement"
	if errors.Is(f.Caller, context.DeadlineExceeded) {
		what = "the caller's deadline ended the statement"
	}
	if f.after > 0 {
		what += fmt.Sprintf(" after %v", f.after.Round(time.Millisecond))
	}
	return what + f.whileReading()
}

// whileReading tells a statement whose rows were still open from one that the server was at work on.
func (f fate) whileReading() string {
	if f.reading {
		return " while its rows were open: sent slowly, read slowly or not closed"
	}
	return ""
}

// What to do about a statement that took too long,
const (
	lookAtPlan     = " (look at its plan with EXPLAIN, and in pg_stat_activity at what it waits for)"
	closeRows      = " (look first whether its rows are closed as soon as they are read)" // if its rows had come
	lookAtStandbys = " (a COMMIT that takes long as a rule waits for a synchronous standby to confirm it: look at pg_stat_replication)"
)

// cutShort returns the error for a statement that didn't get the time it needed, nil for any other.
func (c *Conn) cutShort(err error, fate fate) *cutError {
	pg := pgerror.From(err)
	if pg != nil && !pgerror.IsCanceled(err) {
		return nil
	}
	cut := &cutError{pool: c.dialer, ctx: context.DeadlineExceeded, hint: lookAtPlan, cause: err}
	switch {
	case fate.Caller != nil:
		cut.why, cut.ctx, cut.hint = fate.byCaller(), fate.Caller, ""
	case fate.TimedOut:
		cut.why = fmt.Sprintf("the statement exceeded command_timeout (%v)", c.dialer.cfg.CommandTimeout) + fate.whileReading()
		switch {
		case fate.reading:
			cut.hint = closeRows
		case c.stmt.commits:
			cut.hint = lookAtStandbys
		}
	case pgerror.IsStatementTimeout(err):
		cut.why = "the server's statement_timeout ended the statement"
	default:
		return nil
	}
	return cut
}

// orCut is a COMMIT's error, or what is to be said if it was cut short.
func (c *Conn) orCut(err error) error {
	if cut := c.cutShort(err, c.fate()); cut != nil {
		return cut
	}
	return err
}

// cutError is a statement that command_timeout or the caller's context ended. It is the context's error, and the
// server's if the server answered.
type cutError struct {
	pool  *Dialer
	why   string
	hint  string
	ctx   error
	cause error
}

var _ net.Error = (*cutError)(nil)

func (e *cutError) Error() string { return e.pool.prefix() + e.why + ": " + e.cause.Error() + e.hint }

// Unwrap returns the context's error, pgx's for a timeout if it is one, and the cause.
func (e *cutError) Unwrap() []error { return append(pgerror.OfContext(e.ctx), e.cause) }

// Timeout makes it a net.Error, as context.DeadlineExceeded is.
func (e *cutError) Timeout() bool { return e.ctx == context.DeadlineExceeded }

// Temporary is part of net.Error.
func (e *cutError) Temporary() bool { return e.Timeout() }
