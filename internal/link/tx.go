package link

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/wire"
)

// transaction is the transaction that was begun on the connection by Begin.
type transaction struct {
	active   bool            // there is one, as far as database/sql is concerned
	ctx      context.Context // the context that Begin was called with, which database/sql keeps for the whole transaction
	start    Start           // what InTx says of it; the zero value: InTx has not begun it
	once     *Once           // its key; nil: it has none
	owesKey  bool            // the key has not been inserted yet
	begin    string          // the BEGIN that has not been sent yet; "": it was sent
	refused  error           // why the server has refused BEGIN, and with it the transaction; nil: it has not
	base     *ctxSettings    // the settings of ctx, which all statements have; nil: none
	conflict error           // the server's error by which the transaction has failed in favour of another; nil: it has not
	readOnly bool            // the transaction was begun as read-only
	open     bool            // the server has the transaction: neither a statement nor an error has ended it
	gaveUp   bool            // we have closed the connection, since a transaction on it could not be ended; stays after EndTx
}

// Begin begins a transaction. It is called within Try. As a rule it sends nothing: BEGIN travels with the first statement,
// see board. A transaction that never has one costs nothing.
//
// If the session has a transaction already, which a *sql.Conn makes possible, BEGIN is sent at once: the server refuses it or
// makes both one, and the end of either is the end of what was done in it.
func (c *Conn) Begin(ctx context.Context, options pgx.TxOptions) error {
	if err := AlreadyEnded(ctx); err != nil {
		return err // pgx would close the connection
	}
	base := settingsOf(ctx)
	if base != nil && base.err != nil {
		return base.err
	}
	c.raw.lent = false
	outer, eager := c.tx, c.dialer.cfg.EagerBegin
	if c.inTx() {
		if outer.begin != "" {
			if err := c.beginAtOnce(ctx); err != nil {
				return err
			}
			outer = c.tx
		}
		eager = true
	}
	start := startOf(ctx)
	if start.Once != nil {
		start.Once.err = nil // is of an earlier attempt
	}
	ahead := start.Once != nil && start.Once.Ahead
	c.tx = transaction{
		start: start, once: start.Once, owesKey: start.Once != nil,
		active: true, ctx: ctx, begin: beginText(options), readOnly: options.AccessMode == pgx.ReadOnly, base: base,
	}
	c.doing.note("", c.tx.begin, 0)
	var err error
	if eager || ahead {
		err = c.beginAtOnce(ctx)
		if err == nil && ahead {
			err = c.claim(ctx)
		}
	} else {
		err = c.beforeLazyBegin(ctx)
	}
	if err != nil {
		c.tx = outer
	}
	return err
}

// plainBegin begins a transaction of the server's default kind.
const plainBegin = "begin"

// beginText returns the statement that begins a transaction.
func beginText(o pgx.TxOptions) string {
	text := plainBegin
	if o.IsoLevel != "" {
		text += " isolation level " + string(o.IsoLevel)
	}
	if o.AccessMode != "" {
		text += " " + string(o.AccessMode)
	}
	return text
}

// beginAtOnce begins the transaction in a round trip of its own. Before that, what was prepared before the last change of
// the schema is forgotten, because a statement that is refused in a transaction can't be tried again.
func (c *Conn) beginAtOnce(ctx context.Context) error {
	if err := c.forgetOutdated(ctx); err != nil {
		return err
	}
	if c.session.owed != 0 {
		if err := c.Clean(ctx); err != nil {
			return err
		}
	}
	return c.beginNow(ctx)
}

// beginNow sends BEGIN by itself. If its answer is lost with the connection, the transaction may begin on another one.
func (c *Conn) beginNow(ctx context.Context) error {
	_, err := c.pgx.Exec(ctx, c.tx.begin)
	switch {
	case err == nil:
		c.tx.beginSent(true)
	case !c.pg.IsClosed():
	case c.isFirst() && !c.guard.Cut().Happened():
		c.attempt.turned = elsewhere
	case !c.sentNothing():
		c.tx.beginSent(true)
	}
	return err
}

// beginAhead sends BEGIN by itself, ahead of a statement that it can't travel with. If it fails, the statement must not run.
func (c *Conn) beginAhead(ctx context.Context) error {
	mark := c.tap.Mark()
	err := c.beginNow(ctx)
	if err == nil || c.tap.Mark() == mark || c.pg.IsClosed() { // what was refused may be the session, which has ended then
		return err
	}
	return c.beginRefused(err)
}

// beginRefused is called when the server has refused BEGIN with err. It returns the error of the statement that BEGIN
// belongs to, which is that of all later ones, too.
func (c *Conn) beginRefused(err error) error {
	c.tx.refused = fmt.Errorf("%sBEGIN was refused, the statement has not run: %w", c.dialer.prefix(), err)
	return c.tx.refused
}

// beginSent is called when BEGIN was sent, if it was not sent before. open says whether the server has the transaction; if
// that isn't known, because the connection is lost, it has had it.
func (t *transaction) beginSent(open bool) {
	if t.begin != "" {
		t.begin, t.open = "", open
	}
}

// noteConflict is called at the end of each statement, with its error and the state that the server says the transaction is
// in. A rollback to a savepoint makes a transaction that has failed usable again.
func (t *transaction) noteConflict(status byte, err error) {
	switch {
	case status == 'T':
		t.conflict = nil
	case status == 'E' && pgerror.IsConflict(err):
		t.conflict = err
	}
}

// beforeLazyBegin returns an error if the connection is seen to be lost. The borrower may have had it for a while, and a
// transaction that is begun on a lost connection should fail at once, although nothing is sent.
func (c *Conn) beforeLazyBegin(ctx context.Context) error {
	if c.tap.Mark() == c.attempt.borrowedMark {
		return nil // it was looked at when it was borrowed
	}
	switch c.probe.Peek() {
	case wire.Dead, wire.Pending:
		err := c.Ping(ctx, c.dialer.PingTimeout(), guard.HangingUp)
		c.NoteAttempt() // the ping is no part of the transaction
		return err
	}
	return nil
}

// Commit commits the transaction. Its error says whether the transaction is rolled back for certain, or that the outcome is
// unknown. The end of the caller's context doesn't interrupt it, since the outcome of an interrupted COMMIT is unknown;
// command_timeout does. If BEGIN has not been sent, nothing is sent. Afterwards the connection has no transaction.
func (c *Conn) Commit() error {
	t := &c.tx
	c.raw.lent = false
	if !t.active {
		return sql.ErrTxDone
	}
	defer c.EndTx()
	switch {
	case t.refused != nil:
		c.rollbackOpen(context.WithoutCancel(t.ctx)) // if it is the key that was refused, and not BEGIN
		return c.rolledBack(notSent, t.refused)
	case t.begin != "" && !t.owesKey:
		return nil
	}
	ctx := context.WithoutCancel(t.ctx)
	if t.owesKey && !c.pg.IsBusy() {
		if err := c.protect(func() error { return c.insertAlone(ctx) }); err != nil {
			c.rollbackOpen(ctx)
			return c.rolledBack(notSent, c.Real(err))
		}
	}
	if c.pg.IsBusy() {
		return c.rolledBack(notSent, c.giveUp())
	}
	if err := c.beforeCommit(ctx); err != nil {
		return c.rolledBack(notSent, c.Real(err))
	}
	executions := c.tap.Executions()
	err := c.protect(func() error { return c.commit(ctx) })
	if err == nil && c.Confirmed() {
		return nil
	}
	return c.commitOutcome(err, c.tap.Executions() == executions)
}

// commit sends COMMIT, as pgx does for a transaction of its own.
func (c *Conn) commit(ctx context.Context) error {
	tag, err := c.pgx.Exec(ctx, "commit")
	switch {
	case err != nil && c.pg.TxStatus() != 'I':
		_ = c.pgx.Close(ctx)
	case err == nil && tag.String() == "ROLLBACK":
		err = pgx.ErrTxCommitRollback
	}
	return err
}

// Rollback rolls the transaction back. database/sql calls it also when the transaction's context has ended, and that context
// doesn't interrupt it: the connection stays usable. If BEGIN has not been sent, nothing is sent. Afterwards the connection
// has no transaction.
func (c *Conn) Rollback() error {
	t := &c.tx
	c.raw.lent = false
	if !t.active {
		return sql.ErrTxDone
	}
	defer c.EndTx()
	if t.begin != "" {
		return nil
	}
	ctx := context.WithoutCancel(t.ctx)
	if c.pg.IsBusy() {
		return c.rolledBack("ROLLBACK was not sent, the connection is closed and the transaction with it", c.giveUp())
	}
	if err := c.Ready(ctx); err != nil {
		return c.Explain(err, true)
	}
	if err := c.protect(func() error { return c.rollback(ctx) }); err != nil {
		return c.Explain(err, false)
	}
	return nil
}

// rollback sends ROLLBACK. If that fails the state of the session isn't known, and the connection is closed at once.
func (c *Conn) rollback(ctx context.Context) error {
	_, err := c.pgx.Exec(ctx, "rollback")
	if err != nil {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = c.pgx.Close(ctx)
	}
	return err
}

// rollbackOpen rolls back a transaction that is open on the server, if there is one.
func (c *Conn) rollbackOpen(ctx context.Context) {
	if !c.pg.IsClosed() && c.pg.TxStatus() != 'I' {
		_ = c.protect(func() error { return c.rollback(ctx) })
	}
}

// Movable reports whether another connection may take the place of this one in the midst of a transaction: nothing was done
// on this one since it was lent, but to begin the transaction without having sent anything; or what was sent was turned away.
func (c *Conn) Movable() bool {
	return c.tx.active && c.tx.begin != "" && !c.visit.shown &&
		(c.tap.Mark() == c.attempt.borrowedMark || c.attempt.turned == elsewhere)
}

// FoundDead reports whether the other end has closed a connection that is Movable, as far as can be seen without a round
// trip.
func (c *Conn) FoundDead() bool {
	const hot = int64(50 * time.Microsecond) // hardly any connection dies, and is seen to be dead, in so short a time
	return c.Movable() && (c.pg.IsClosed() || clock.Now()-c.attempt.borrowedAt > hot && c.probe.Peek() == wire.Dead)
}

// A Move is a transaction on its way to another connection; the zero value is none. Nothing of it was sent.
type Move struct{ tx transaction }

// UnderWay reports whether there is a transaction.
func (m Move) UnderWay() bool { return m.tx.active }

// TakeTx takes the transaction from a connection that is Movable. If there is none the Move is none.
func (c *Conn) TakeTx() Move {
	m := Move{c.tx}
	c.EndTx()
	return m
}

// TakeOver goes on with a transaction that was begun on another connection.
func (c *Conn) TakeOver(m Move) {
	if m.UnderWay() {
		c.tx = m.tx
	}
}

// EndTx forgets the transaction, whatever became of it on the server. It is called at the end of Commit and Rollback, and
// when the borrower gives the connection back, so that later errors are not explained by it.
func (c *Conn) EndTx() { c.tx = transaction{gaveUp: c.tx.gaveUp} }

// beforeCommit returns an error if COMMIT can't succeed because the session is over. The server may have ended it while the
// client was busy with something else. Then its message is in the socket, which costs no round trip to see; only if
// something is there, a ping reads it. After an error COMMIT has not been sent, so the transaction is rolled back for
// certain.
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

// giveUp is called by Commit and Rollback if rows are open on the connection, so that neither COMMIT nor ROLLBACK can be
// sent. It closes the connection, by which the server rolls the transaction back: later statements on the connection would
// become part of the transaction. pgx would close it as well, but it would look as if the caller's context had ended.
func (c *Conn) giveUp() error {
	c.tx.gaveUp = true
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.pgx.Close(ctx)
	return ErrBusy
}

// A rolledBackError is the error of a statement or a COMMIT after which the transaction is rolled back for certain, because
// its connection was lost before a COMMIT was executed. The transaction may be begun again, see LostTx.
type rolledBackError struct {
	dialer *Dialer // the dialer of the transaction's connection
	why    string
	cause  error // never nil
}

// rolledBack returns a rolledBackError of this connection's.
func (c *Conn) rolledBack(why string, cause error) error {
	return &rolledBackError{dialer: c.dialer, why: why, cause: cause}
}

func (e *rolledBackError) Error() string { return e.dialer.prefix() + e.why + ": " + e.cause.Error() }

// Unwrap returns the cause.
func (e *rolledBackError) Unwrap() error { return e.cause }

// LostTx reports whether a transaction that failed with err is rolled back for certain because its connection, one of this
// dialer's, was lost.
func (d *Dialer) LostTx(err error) bool {
	rolledBack, ok := errors.AsType[*rolledBackError](err)
	return ok && rolledBack.dialer == d
}

// IsOutdated reports whether a transaction that failed with err is rolled back because one of its statements was outdated.
func (d *Dialer) IsOutdated(err error) bool {
	_, ok := errors.AsType[outdatedError](err)
	return ok
}
