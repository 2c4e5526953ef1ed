package link

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/sqlsummary"
)

// Again says why a statement that has failed may be sent again on another connection, if nothing that came before depends on
// the one that it was sent on.
type Again uint8

const (
	No          Again = iota // it may not
	NotExecuted              // the server has not executed anything of it
	Ended                    // the server says that it has ended the statement, and so rolled back what that had done
	Repeatable               // the reply is lost, and the caller has said that the statement may run twice
)

// A turn says whether a statement was turned away before it was executed, and where it may be sent again.
type turn uint8

const (
	notTurned turn = iota // it wasn't turned away
	forGood               // it was turned away, and would be again
	here                  // it may be sent again on the same connection
	elsewhere             // it may be sent again on another connection, if nothing that came before depends on this one
)

// MayRunHere is asked after Try has failed. It reports whether the server has not executed the statement, because it has
// refused what travelled in front of it, and whether the statement may succeed if it is sent again on this connection.
func (c *Conn) MayRunHere() bool { return c.attempt.turned == here }

// MayRunElsewhere is asked after Try has failed with err. ctx is the statement's.
func (c *Conn) MayRunElsewhere(ctx context.Context, err error) Again {
	switch {
	case c.attempt.turned == elsewhere, c.neverExecuted():
		return NotExecuted
	case c.endedInstead(err):
		return Ended
	case !c.tx.active && c.demoted(err) && leavesNothing(&c.stmt): // what it refuses it has not done
		return NotExecuted
	case c.mayRepeat(ctx, err):
		return Repeatable
	}
	return No
}

// isFirst reports whether nothing was sent in this visit before the last Try began, so that nothing depends on this connection.
func (c *Conn) isFirst() bool { return c.attempt.mark == c.attempt.borrowedMark }

// sentNothing reports whether not a byte was written on the connection since the last Try began.
func (c *Conn) sentNothing() bool { return c.tap.Mark() == c.attempt.mark }

// NoteAttempt is called before what Try isn't called for.
func (c *Conn) NoteAttempt() { c.attempt.mark, c.attempt.executions = c.tap.Mark(), c.tap.Executions() }

// ExecutedNothing reports whether the server can't have executed anything of the statement since the last Try began: pgx has
// sent no more than what prepares it.
func (c *Conn) ExecutedNothing() bool { return c.tap.Executions() == c.attempt.executions }

// neverExecuted reports whether the connection was lost before the server could execute anything of the statement. The result
// is false if command_timeout or the caller's context has ended the statement while it was being prepared, since it must not
// be tried again.
func (c *Conn) neverExecuted() bool {
	return c.pg.IsClosed() && (c.sentNothing() || c.ExecutedNothing() && !c.guard.Cut().Happened())
}

// endedInstead reports whether err is the server's word that it has ended the statement of this Try in place of completing or
// committing it, and nothing of that statement is left. The statement's completion may have come before err: by the extended
// protocol the server commits after it, and then doesn't look whether the session is to end before it is ready for the next
// statement. By the simple protocol it has committed.
func (c *Conn) endedInstead(err error) bool {
	s := &c.stmt
	return (pgerror.EndedInstead(err) && !pgerror.TookTooLong(err) || pgerror.WorkerEnded(err)) &&
		s.mark >= c.attempt.mark && !c.tap.Committed() && leavesNothing(s)
}

// leavesNothing reports whether nothing is left of a statement that the server has ended in its midst. This is so for a single
// statement that doesn't commit in its midst, and does nothing outside of its transaction.
func leavesNothing(s *Statement) bool {
	return s.Kind == "" && !s.commits && isOne(s.SQL) && !sqlsummary.StandsAlone(s.SQL) &&
		beginsOtherwise(s.SQL) && // COPY may have written to a program
		!mentions(s.SQL, "pg_terminate_backend")
}

// isProven reports whether a statement that pgx says has failed is committed all the same, since its command tag has come. By
// the simple protocol the server sends the tag of a statement outside of a transaction when it has committed it.
func (c *Conn) isProven(tag pgconn.CommandTag) bool {
	s := &c.stmt
	return c.attempt.simple && c.attempt.undecided && c.depth == 1 && c.pg.IsClosed() && tag.String() != "" &&
		!c.tx.active && c.pg.TxStatus() == 'I' && isOne(s.SQL) && !sqlsummary.ComputesNothing(s.SQL)
}

// isOne reports whether a text is one statement.
func isOne(sql string) bool { return isSingle(sql) || len(slices.Collect(sqlsummary.Split(sql))) == 1 }

// mayRepeat reports whether the reply to a statement outside of a transaction was lost, and its caller has said that it may
// run twice. The result is false if command_timeout or the caller's context has ended the statement.
func (c *Conn) mayRepeat(ctx context.Context, err error) bool {
	return isRepeatable(ctx) && !c.tx.active && !c.stmt.commits && !c.guard.Cut().Happened() &&
		(c.pg.IsClosed() || pgerror.ServerLost(err))
}

type repeatableKey struct{}

// anyRepeatable is true once WithRepeatable was called.
var anyRepeatable atomic.Bool

// WithRepeatable returns a context whose statements may run twice.
func WithRepeatable(ctx context.Context) context.Context {
	anyRepeatable.Store(true)
	return context.WithValue(ctx, repeatableKey{}, true)
}

func isRepeatable(ctx context.Context) bool {
	return anyRepeatable.Load() && ctx.Value(repeatableKey{}) != nil
}
