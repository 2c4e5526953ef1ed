package pool

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/wire"
)

// Begin implements driver.Conn.
func (s *session) Begin() (driver.Tx, error) {
	return s.BeginTx(context.Background(), driver.TxOptions{})
}

// BeginTx implements driver.ConnBeginTx.
func (s *session) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	options, err := txOptions(opts)
	if err != nil {
		return nil, err
	}
	if err := alreadyEnded(ctx); err != nil {
		return nil, err // pgx would close the connection, hence again when there is one
	}
	err = s.run(ctx, false, func(c *conn) error {
		if err := alreadyEnded(ctx); err != nil {
			return err
		}
		if err := c.forgetOutdated(ctx); err != nil {
			return err
		}
		tx, err := c.pgx.BeginTx(ctx, options)
		if err == nil {
			s.tx, s.txCtx, c.readOnly, c.txOpen = tx, ctx, opts.ReadOnly, true
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func txOptions(opts driver.TxOptions) (o pgx.TxOptions, err error) {
	switch sql.IsolationLevel(opts.Isolation) {
	case sql.LevelDefault:
	case sql.LevelReadUncommitted:
		o.IsoLevel = pgx.ReadUncommitted
	case sql.LevelReadCommitted:
		o.IsoLevel = pgx.ReadCommitted
	case sql.LevelRepeatableRead, sql.LevelSnapshot:
		o.IsoLevel = pgx.RepeatableRead
	case sql.LevelSerializable:
		o.IsoLevel = pgx.Serializable
	default:
		return o, fmt.Errorf("pgprod: PostgreSQL has no isolation level %v (Default, Read Uncommitted, Read Committed, "+
			"Repeatable Read, Snapshot, Serializable)", sql.IsolationLevel(opts.Isolation))
	}
	if opts.ReadOnly {
		o.AccessMode = pgx.ReadOnly
	}
	return o, nil
}

// Commit implements driver.Tx. The caller's context doesn't reach it: a COMMIT that is cut short has an outcome that
// nobody knows. command_timeout bounds it.
func (s *session) Commit() error {
	c, tx := s.c, s.tx
	if c == nil || tx == nil {
		return sql.ErrTxDone
	}
	defer s.endTx(c)
	ctx := context.WithoutCancel(s.txCtx)
	if c.pg.IsBusy() {
		return c.rolledBack(notSent, c.giveUp())
	}
	if err := c.beforeCommit(ctx); err != nil {
		return c.rolledBack(notSent, c.real(err))
	}
	mark := c.tap.Mark()
	err := s.attempt(c, func(*conn) error { return tx.Commit(ctx) })
	if err == nil && c.unconfirmed == nil {
		return nil
	}
	return c.outcome(err, c.tap.Mark() == mark)
}

// Rollback implements driver.Tx. It is called when the transaction's context has ended, too: the connection is then
// rolled back and lives on.
func (s *session) Rollback() error {
	c, tx := s.c, s.tx
	if c == nil || tx == nil {
		return sql.ErrTxDone
	}
	defer s.endTx(c)
	ctx := context.WithoutCancel(s.txCtx)
	if c.pg.IsBusy() {
		return c.rolledBack("ROLLBACK was not sent, the connection is closed and the transaction with it", c.giveUp())
	}
	if err := c.ready(ctx); err != nil {
		return c.explain(err, true)
	}
	if err := s.attempt(c, func(*conn) error { return tx.Rollback(ctx) }); err != nil {
		return c.explain(err, false)
	}
	return nil
}

// endTx forgets the transaction, whatever became of it: what comes after it in the same session is not its part.
func (s *session) endTx(c *conn) {
	s.tx, s.txCtx = nil, nil
	c.readOnly, c.txOpen = false, false
}

// beforeCommit makes sure, as far as that can be seen without a round trip, that COMMIT will reach a session which still
// has the transaction. The server may have ended it while nobody was listening: its last words then wait to be read.
func (c *conn) beforeCommit(ctx context.Context) error {
	if err := c.ready(ctx); err != nil {
		return err
	}
	switch c.probe.Look() {
	case wire.Dead, wire.Pending:
		return c.ping(ctx, c.pool.pingTimeout, guard.HangingUp)
	}
	return nil
}

// giveUp closes the connection of a transaction that can't be ended, since rows of its *sql.Conn are open: what came after
// it on that connection would be part of the transaction. pgx would do the same, under a context that looks like the
// caller's.
func (c *conn) giveUp() error {
	c.gaveUp = true
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.pgx.Close(ctx)
	return errBusy
}

const notSent = "COMMIT was not sent, the server rolls the transaction back"

// outcome is what a COMMIT's caller is told when pgx has returned err, or when the server has warned. It is nil if the
// connection was lost after the server had said that it is done.
func (c *conn) outcome(err error, unsent bool) error {
	switch {
	case c.unconfirmed != nil:
		return c.notReplicated(c.unconfirmed)
	case c.tag == "COMMIT" || c.tag == "COMMIT PREPARED" || c.tag == "PREPARE TRANSACTION":
		return nil
	case unsent:
		return c.rolledBack(notSent, c.real(err))
	case pgerror.EndedInstead(err):
		return c.rolledBack("the transaction was not committed, the server ended the session instead", err)
	case pgerror.SettlesCommit(err):
		if cut := c.cutShort(err, c.fate()); cut != nil {
			return cut
		}
		return err
	}
	return c.commitUnknown(err)
}

// commitUnknown is the error of a COMMIT that was sent and not answered.
func (c *conn) commitUnknown(err error) error {
	err = c.real(err)
	if cut := c.cutShort(err, c.fate()); cut != nil {
		err = cut
	}
	c.pool.diary.CommitUnknown(ErrCommitUnknown, instruments.Describe(err, ""))
	return fmt.Errorf("%w: %w", ErrCommitUnknown, err)
}
