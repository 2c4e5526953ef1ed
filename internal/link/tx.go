package link

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/wire"
)

// ErrCommitUnknown is found in the error of a COMMIT whose outcome isn't known, or that isn't replicated; the root package
// exports it.
var ErrCommitUnknown = errors.New("pgprod: the reply to COMMIT was lost, the outcome is unknown")

// transaction is the one that was begun on the connection by Begin.
type transaction struct {
	tx       pgx.Tx          // nil: there is none
	ctx      context.Context // that it was begun with
	readOnly bool            // it was begun as read-only
	open     bool            // it has begun, and no statement of its own has ended it
	gaveUp   bool            // the connection was closed since its transaction could not be ended
}

// InTx reports whether Begin was called, and since then neither Commit, Rollback nor EndTx.
func (c *Conn) InTx() bool { return c.tx.tx != nil }

// Begin begins a transaction.
func (c *Conn) Begin(ctx context.Context, options pgx.TxOptions) error {
	if err := AlreadyEnded(ctx); err != nil {
		return err // pgx would close the connection
	}
	if err := c.forgetOutdated(ctx); err != nil {
		return err
	}
	tx, err := c.pgx.BeginTx(ctx, options)
	if err != nil {
		return err
	}
	c.tx = transaction{tx: tx, ctx: ctx, readOnly: options.AccessMode == pgx.ReadOnly, open: true}
	return nil
}

// Commit commits the transaction and returns what its caller is told. The caller's context doesn't reach it: a COMMIT that
// is cut short has an outcome that nobody knows. command_timeout bounds it.
func (c *Conn) Commit() error {
	if c.tx.tx == nil {
		return sql.ErrTxDone
	}
	defer c.EndTx()
	ctx := context.WithoutCancel(c.tx.ctx)
	if c.pg.IsBusy() {
		return c.rolledBack(notSent, c.giveUp())
	}
	if err := c.beforeCommit(ctx); err != nil {
		return c.rolledBack(notSent, c.Real(err))
	}
	mark := c.tap.Mark()
	err := c.protect(func() error { return c.tx.tx.Commit(ctx) })
	if err == nil && c.Confirmed() {
		return nil
	}
	return c.commitOutcome(err, c.tap.Mark() == mark)
}

// Rollback rolls the transaction back. It is called when the transaction's context has ended, too: the connection is then
// rolled back and lives on.
func (c *Conn) Rollback() error {
	if c.tx.tx == nil {
		return sql.ErrTxDone
	}
	defer c.EndTx()
	ctx := context.WithoutCancel(c.tx.ctx)
	if c.pg.IsBusy() {
		return c.rolledBack("ROLLBACK was not sent, the connection is closed and the transaction with it", c.giveUp())
	}
	if err := c.Ready(ctx); err != nil {
		return c.Explain(err, true)
	}
	if err := c.protect(func() error { return c.tx.tx.Rollback(ctx) }); err != nil {
		return c.Explain(err, false)
	}
	return nil
}

// EndTx forgets the transaction, whatever became of it: what comes after it in the same session is not its part.
func (c *Conn) EndTx() { c.tx = transaction{gaveUp: c.tx.gaveUp} }

// beforeCommit makes sure, as far as that can be seen without a round trip, that COMMIT will reach a session which still
// has the transaction. The server may have ended it while nobody was listening: its last words then wait to be read.
func (c *Conn) beforeCommit(ctx context.Context) error {
	if err := c.Ready(ctx); err != nil {
		return err
	}
	switch c.probe.Peek() {
	case wire.Dead, wire.Pending:
		return c.Ping(ctx, c.dialer.PingTimeout(), guard.HangingUp)
	}
	return nil
}

// giveUp closes the connection of a transaction that can't be ended, since rows of its *sql.Conn are open: what came after
// it on that connection would be part of the transaction. pgx would do the same, under a context that looks like the
// caller's.
func (c *Conn) giveUp() error {
	c.tx.gaveUp = true
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.pgx.Close(ctx)
	return ErrBusy
}

const notSent = "COMMIT was not sent, the server rolls the transaction back"

// commitOutcome is what a COMMIT's caller is told when pgx has returned err, or when the server has warned. It is nil if the
// connection was lost after the server had said that it is done.
func (c *Conn) commitOutcome(err error, unsent bool) error {
	o := &c.stmt.outcome
	switch {
	case o.unconfirmed != nil:
		return c.notReplicated(o.unconfirmed)
	case o.tag == "COMMIT" || o.tag == "COMMIT PREPARED" || o.tag == "PREPARE TRANSACTION":
		return nil
	case unsent:
		return c.rolledBack(notSent, c.Real(err))
	case pgerror.EndedInstead(err):
		return c.rolledBack("the transaction was not committed, the server ended the session instead", err)
	case pgerror.SettlesCommit(err):
		return c.orCut(err)
	}
	err = c.orCut(c.Real(err))
	c.observer.CommitUnknown(err)
	return fmt.Errorf("%w: %w", ErrCommitUnknown, err)
}

// notReplicated is the error of what is committed and has not been confirmed by a synchronous standby, as the server's
// warning says. If it was command_timeout or the caller's context that ended the wait, the error says that as well.
func (c *Conn) notReplicated(warning *pgconn.PgError) error {
	e := &explained{causes: []error{ErrCommitUnknown, warning}, text: c.dialer.prefix() +
		"committed on this server, but no synchronous standby has confirmed it, and a failover may undo it: " + warning.Message}
	if cut := c.guard.Cut().Err(); cut != nil {
		e.causes = append(e.causes, pgerror.OfContext(cut)...)
	}
	return e
}

// rolledBackError is the error of a statement, or of a COMMIT that was not sent or not begun, by which the transaction is
// rolled back for certain: it may be begun again.
type rolledBackError struct {
	dialer *Dialer // of the transaction's connection
	why    string
	cause  error
}

func (c *Conn) rolledBack(why string, cause error) error {
	return &rolledBackError{dialer: c.dialer, why: why, cause: cause}
}

func (e *rolledBackError) Error() string { return e.dialer.prefix() + e.why + ": " + e.cause.Error() }

// Unwrap returns the cause.
func (e *rolledBackError) Unwrap() error { return e.cause }

// MayBeginAgain reports whether err says that a transaction on a connection of this dialer is rolled back for certain, since
// its connection was lost or because a statement was outdated: begun again it may succeed.
func (d *Dialer) MayBeginAgain(err error) bool {
	if _, outdated := errors.AsType[outdatedError](err); outdated {
		return true
	}
	lost, ok := errors.AsType[*rolledBackError](err)
	return ok && lost.dialer == d
}
