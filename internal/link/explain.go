package link

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/pgerror"
)

// ErrLost is the error of a connection that was lost for an unknown reason.
var ErrLost = errors.New("connection lost")

// prefix is the beginning of the texts of all errors that are made here.
func (d *Dialer) prefix() string { return "pgprod: pool " + d.cfg.PoolName + ": " }

// AlreadyEnded returns the error of a call whose context has ended before anything was sent, or brings a limit that is not
// allowed. Otherwise it returns nil.
func AlreadyEnded(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		return checkLimit(ctx)
	}
	return pgerror.WithCauses("pgprod: nothing was sent: "+err.Error(), pgerror.OfContext(err)...)
}

// Real returns the error behind err, if that says little: in place of stdlib's driver.ErrBadConn, which must not reach
// database/sql, the last error that pgx has reported; and in place of pgx's "conn closed" the network's error.
func (c *Conn) Real(err error) error {
	if errors.Is(err, driver.ErrBadConn) {
		err = ErrLost
		if c.stmt.outcome.cause != nil {
			err = c.stmt.outcome.cause
		}
	}
	if failure := c.tap.Err(); failure != nil && (err == ErrLost || errors.Is(err, pgconn.ErrConnClosed)) {
		return failure
	}
	return err
}

// Explain turns a statement's error into the one that its caller gets. If command_timeout or the caller's context has cut
// the statement short, it says so. If the connection was lost, also by that, it says whether the statement may have run; unsent
// says that not a byte of it was written. The server's errors are returned as they are.
func (c *Conn) Explain(err error, unsent bool) error {
	err = c.Real(err)
	switch {
	case c.depth > 0:
		return err // refused, since the rows of another statement are open, which the guard is concerned with
	case c.stmt.commits || !c.Confirmed():
		return c.commitOutcome(err, unsent)
	}
	if cut := c.cutShort(err, c.fate()); cut != nil {
		cut.why += c.knownOfCut(err, unsent)
		if !unsent {
			cut.hint = withRemains(cut.hint, c.stmt.SQL)
		}
		return cut
	}
	switch {
	case c.pg.IsClosed():
		return c.explainLoss(err, unsent)
	case pgconn.SafeToRetry(err): // pgx has looked at the context before it wrote
		return fmt.Errorf("%sthe context had ended before the statement was executed: %w", c.dialer.prefix(), err)
	}
	return err
}

// knownOfCut says in words what is known of a statement that was cut short. If the server has confirmed that, by its error, all
// of it is rolled back, which goes without saying.
func (c *Conn) knownOfCut(err error, unsent bool) string {
	switch {
	case pgerror.From(err) != nil:
		return ""
	case unsent, pgconn.SafeToRetry(err):
		return " before it was executed"
	case !c.pg.IsClosed():
		return ""
	case c.tx.open:
		return ", the transaction is rolled back"
	}
	return ", whether it ran is unknown"
}

// explainLoss returns the error of a statement that was under way when the connection was lost. In a transaction it is known
// that all of it is rolled back, since no COMMIT was sent. Otherwise the statement may have run, unless it was unsent, or the
// server has said that it ended the statement.
func (c *Conn) explainLoss(err error, unsent bool) error {
	how := "the connection was lost after the statement was sent"
	switch {
	case pgerror.From(err) != nil: // the server, or a pooler, has said by an error why it ended the session
		how = "the server ended the session"
	case unsent && c.sentNothing():
		how = "the connection was lost before the statement was sent"
	case unsent:
		how = "the connection was lost before the statement was executed"
	}
	switch {
	case c.tx.open:
		return c.rolledBack(how+", the transaction is rolled back", err)
	case unsent:
		return fmt.Errorf("%s%s: %w", c.dialer.prefix(), how, err)
	case c.wasEnded(err):
		return fmt.Errorf("%s%s in place of completing the statement, which is rolled back: %w", c.dialer.prefix(), how, err)
	}
	return fmt.Errorf("%s%s, whether it ran is unknown: %w%s", c.dialer.prefix(), how, err, remainsOf(c.stmt.SQL))
}

// wasEnded reports whether err says that the server has ended the last statement, and so rolled back all of it.
func (c *Conn) wasEnded(err error) bool {
	return pgerror.EndedInstead(err) && !c.tap.Committed() && leavesNothing(&c.stmt)
}

// explainRaw returns the error of a function that was called by Raw. It is the function's own, unless that contains pgx's
// error for a statement that was cut short: then it is explained.
func (c *Conn) explainRaw(err error) error {
	if refused := c.raw.refused; refused != nil && errors.Is(err, context.Canceled) {
		return pgerror.WithCauses(refused.Error(), refused, err)
	}
	network, _ := errors.AsType[net.Error](err)
	if pgerror.From(err) != nil || network != nil && network.Timeout() {
		if cut := c.cutShort(err, c.raw.cut); cut != nil {
			cut.hint = withRemains(cut.hint, c.raw.cut.sql)
			return cut
		}
	}
	return err
}

// A fate is what cut a statement short, if anything did, and how far the statement had come.
type fate struct {
	guard.Cut
	limit   limit         // the one that it had
	sql     string        // Statement.SQL
	commits bool          // it is a COMMIT
	after   time.Duration // how long the statement had run; 0: not known
	reading bool          // its first rows had arrived, and the caller had not closed them

	found *activity.Cause // what it was last found to wait for; nil: not known
}

// fate returns the fate of the statement under way, or of the last one.
func (c *Conn) fate() fate {
	s := &c.stmt
	return fate{c.guard.Cut(), s.limit, s.SQL, s.commits, s.outcome.cutAfter, s.outcome.cutReading, s.Cause}
}

// byCaller says in words how the end of the caller's context has ended the statement.
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

// whileReading is the part of the text that says that the statement's rows were open, so that the time was not the server's
// alone. It is "" if the server was still working on the statement.
func (f fate) whileReading() string {
	if f.reading {
		return " while its rows were open: sent slowly, read slowly or not closed"
	}
	return ""
}

// These are the hints about a statement that took too long.
const (
	lookAtPlan     = " (look at its plan with EXPLAIN, and in pg_stat_activity at what it waits for)"
	closeRows      = " (look first whether its rows are closed as soon as they are read)" // if its rows had come
	lookAtStandbys = " (a COMMIT that takes long as a rule waits for a synchronous standby to confirm it: look at pg_stat_replication)"
)

// cutShort returns the error for a statement with the given fate, of which pgx has returned err. It is nil if the statement
// was not cut short, or if the server has answered it with another error nevertheless.
func (c *Conn) cutShort(err error, fate fate) *cutError {
	pg := pgerror.From(err)
	if pg != nil && !pgerror.IsCanceled(err) { // the server has ended the statement for another reason
		return nil
	}
	cut := &cutError{pool: c.dialer, ctx: context.DeadlineExceeded, hint: lookAtPlan, cause: err}
	switch {
	case fate.Caller != nil:
		cut.why, cut.ctx, cut.hint = fate.byCaller(), fate.Caller, ""
	case fate.TimedOut:
		cut.why = "the statement exceeded " + fate.limit.text(fate.commits) + fate.whileReading()
		switch {
		case fate.reading:
			cut.hint = closeRows
		case fate.commits:
			cut.hint = lookAtStandbys
		}
	case pgerror.IsStatementTimeout(err):
		cut.why = "the server's statement_timeout ended the statement"
	default:
		return nil
	}
	if found := fate.found; found != nil {
		cut.hint = fmt.Sprintf(" (seen after %v: %v)", activity.Rough(found.After), found)
	}
	return cut
}

// orCut returns err, or, if the COMMIT that failed with it was cut short, the error that says so.
func (c *Conn) orCut(err error) error {
	if cut := c.cutShort(err, c.fate()); cut != nil {
		return cut
	}
	return err
}

// A cutError is the error of a statement that command_timeout, the caller's context or the server's statement_timeout has
// ended. Among its causes are the context's error and pgx's, which is the server's if the server has answered.
type cutError struct {
	pool  *Dialer
	why   string // what has ended the statement
	hint  string // what to look at, in brackets with a space before; "": nothing
	ctx   error  // the caller's context's error, or context.DeadlineExceeded
	cause error  // pgx's error
}

var _ net.Error = (*cutError)(nil)

func (e *cutError) Error() string { return e.pool.prefix() + e.why + ": " + e.cause.Error() + e.hint }

// Unwrap returns the context's error, an error that pgconn.Timeout recognises if a deadline has passed, and the cause.
func (e *cutError) Unwrap() []error { return append(pgerror.OfContext(e.ctx), e.cause) }

// Timeout implements net.Error, which context.DeadlineExceeded is as well.
func (e *cutError) Timeout() bool { return e.ctx == context.DeadlineExceeded }

// Temporary implements net.Error.
func (e *cutError) Temporary() bool { return e.Timeout() }
