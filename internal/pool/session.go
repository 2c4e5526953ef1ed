package pool

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/sqlsummary"
)

// rebinds is how often a statement is tried on another connection because the one it got died before a byte of the
// statement was written.
const rebinds = 3

// A session is what the application's *sql.DB takes for a connection. It is weightless until its first use, and again
// from the moment when the *sql.DB puts it away, which database/sql tells it by asking IsValid (or by closing it).
//
// It never returns driver.ErrBadConn: that would make database/sql run the statement again.
type session struct {
	pool *Pool
	c    *conn // nil: no connection is borrowed

	tx    pgx.Tx
	txCtx context.Context
	over  bool // a panic has ended it: it gets no connection any more

	lentAt int64 // by clock.Now(): when it last got a connection
}

var (
	_ driver.Conn               = (*session)(nil)
	_ driver.ConnPrepareContext = (*session)(nil)
	_ driver.ConnBeginTx        = (*session)(nil)
	_ driver.ExecerContext      = (*session)(nil)
	_ driver.QueryerContext     = (*session)(nil)
	_ driver.Pinger             = (*session)(nil)
	_ driver.NamedValueChecker  = (*session)(nil)
	// With both of these database/sql lets a connection live when a transaction's context ends. Rollback sees to it
	// that it may.
	_ driver.SessionResetter = (*session)(nil)
	_ driver.Validator       = (*session)(nil)
	_ driver.Tx              = (*session)(nil)
)

// Session returns a new session for an application's *sql.DB.
func (p *Pool) Session() driver.Conn { return &session{pool: p} }

// Conn returns the connection below, for callers of (*sql.Conn).Raw. It borrows one, waiting at most pool_timeout, and
// is nil if there is none to be had; a PingContext before Raw gives the reason. The connection is the caller's until
// Raw returns.
func (s *session) Conn() *pgx.Conn {
	if _, err := s.use(context.Background()); err != nil {
		return nil
	}
	s.c.releaseUnadopted(context.Background())
	s.c.visit.shown = true
	return s.c.pgx
}

// Lend calls fn with the connection below. A panic in fn, or what fn leaves behind (an open transaction, rows that are
// still being read), costs the connection.
func (s *session) Lend(ctx context.Context, fn func(*pgx.Conn) error) error {
	if _, err := s.use(ctx); err != nil {
		return err
	}
	c := s.c
	returned := false
	defer func() {
		if !returned {
			c.condemned = "dirty"
		}
	}()
	c.releaseUnadopted(ctx)
	c.lentCut, c.lentUnconfirmed, c.visit.shown = fate{}, nil, true
	err := fn(c.pgx)
	returned = true
	if err == nil && c.lentUnconfirmed != nil {
		return c.notReplicated(c.lentUnconfirmed)
	}
	return c.explainLent(err)
}

// IsValid implements driver.Validator: the session is being put away.
func (s *session) IsValid() bool {
	s.giveBack()
	return !s.over
}

// Close implements driver.Conn. database/sql puts a session away before it closes it, but for one: whoever had it by
// (*sql.Conn).Raw panicked, or said with driver.ErrBadConn that it is of no use any more.
func (s *session) Close() error {
	if s.c != nil {
		s.c.condemned = "dirty"
	}
	s.giveBack()
	return nil
}

// ResetSession implements driver.SessionResetter. A session that holds no connection has nothing to reset.
func (s *session) ResetSession(context.Context) error { return nil }

// CheckNamedValue implements driver.NamedValueChecker: pgx takes any argument as it is.
func (s *session) CheckNamedValue(*driver.NamedValue) error { return nil }

// use makes sure that there is a connection and reports whether it was borrowed just now, so that nothing depends on
// its being this one.
func (s *session) use(ctx context.Context) (fresh bool, err error) {
	switch {
	case s.over:
		return false, errPanicked
	case s.c == nil:
		return true, s.borrow(ctx)
	}
	if err := s.c.ready(ctx); err != nil {
		return false, s.c.explain(err, true)
	}
	return false, nil
}

// unsent reports whether another connection may be tried: this one was borrowed for the statement, has died, and not a
// byte was written to it since mark.
func (s *session) unsent(fresh bool, mark int64, try int) bool {
	return fresh && try < rebinds && s.c.pg.IsClosed() && s.c.tap.Mark() == mark
}

// run has do work on the connection, on another one if it turns out to be dead before anything was sent, and once more
// if it was refused because the schema has changed since pgx prepared it, where replan says so.
//
// However often it is tried, it is one operation, which is carried on from attempt to attempt.
func (s *session) run(ctx context.Context, replan bool, do func(*conn) error) error {
	var op instruments.Operation // of the attempts so far
	for try := 0; ; try++ {
		fresh, err := s.use(ctx)
		if err == nil && !fresh && s.c.pg.IsBusy() {
			err = errBusy
		}
		if err != nil {
			op.End(ctx, -1, err, "")
			return err
		}
		c := s.c
		if op.Pending() {
			c.op = op
		}
		mark := c.tap.Mark()
		replan = replan && ctx.Err() == nil // else its failure would hide the first
		c.mayRebind, c.mayReplan = fresh && try < rebinds, replan
		if fresh {
			c.lentAt = s.lentAt
		}
		err = s.attempt(c, do)
		c.mayRebind, c.mayReplan = false, false
		if err == nil && c.unconfirmed == nil {
			return nil
		}
		op = c.takePending()
		switch {
		case replan && c.outdated(err):
			c.learnSchema(err)
			replan = false
		case s.unsent(fresh, mark, try):
			s.giveBack()
		default:
			err = c.outdatedIn(err, c.explain(err, c.tap.Mark() == mark))
			op.End(ctx, -1, err, c.callersText())
			return err
		}
	}
}

// attempt has do work on c. A panic of the application's code in the midst of it (of a driver.Valuer, a codec, a tracer)
// becomes an error: database/sql would otherwise keep the lock of a transaction or a *sql.Conn for ever, and whoever rolls
// the transaction back on the way out would wait for that lock (golang/go#26332).
func (s *session) attempt(c *conn, do func(*conn) error) (err error) {
	returned := false
	defer func() {
		c.lentAt = 0
		if !returned {
			err = s.interrupted(c, recover())
		}
	}()
	err = do(c)
	returned = true
	return err
}

// interrupted ends what a panic, or runtime.Goexit, has left half done, and returns the panic as an error. The connection
// is not lent again. After Goexit, which can't be stopped, database/sql doesn't give the session back either: its
// connection goes now, and it gets no other.
func (s *session) interrupted(c *conn, panicked any) error {
	c.abandon()
	c.condemned = "dirty"
	if panicked == nil {
		s.over = true
		s.giveBack()
		return nil
	}
	return newPanicError(panicked)
}

// text is what goes to the server: the statement, with the tags that the application asked for.
func (s *session) text(ctx context.Context, query string) (string, error) {
	if copiesIn(query) {
		return "", errCopyIn
	}
	if c := s.pool.hooks.Commenter; c != nil {
		return c.Append(ctx, query), nil
	}
	return query, nil
}

// copiesIn reports whether a statement makes the server wait for rows that database/sql has no way to send: pgx would
// wait with it. Most texts are one statement, whose first letters tell that it is no COPY.
func copiesIn(query string) bool {
	return !(beginsOtherwise(query) && isOne(query)) && sqlsummary.CopiesIn(query)
}

// beginsOtherwise reports whether a text begins with another word than COPY. False says nothing.
func beginsOtherwise(query string) bool {
	const first = "copy"
	query = opening(query)
	return len(query) >= len(first) && query[0] >= 'A' && (query[0]|0x20 != 'c' || !strings.EqualFold(query[:len(first)], first))
}

// opening is a text without the white space and the lines of comment that programs like to put in front of it.
func opening(query string) string {
	for query != "" {
		switch c := query[0]; {
		case c == ' ' || '\t' <= c && c <= '\r':
			query = query[1:]
		case strings.HasPrefix(query, "--"):
			_, query, _ = strings.Cut(query, "\n")
		default:
			return query
		}
	}
	return query
}

var errCopyIn = errors.New("pgprod: COPY … FROM STDIN can't be sent by database/sql: use CopyFrom of the *pgx.Conn that " +
	"pgprod.Raw lends, or inside a transaction (*sql.Conn).Raw")

// ExecContext implements driver.ExecerContext.
func (s *session) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (res driver.Result, err error) {
	if query, err = s.text(ctx, query); err != nil {
		return nil, err
	}
	// Without arguments pgx sends the text as it is, which may be several statements.
	err = s.run(ctx, len(args) > 0, func(c *conn) error {
		sent := args
		if len(args) > 0 {
			sent = c.bypass(query, args)
		}
		res, err = c.std.ExecContext(ctx, query, sent)
		return err
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

// QueryContext implements driver.QueryerContext.
func (s *session) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	query, err := s.text(ctx, query)
	if err != nil {
		return nil, err
	}
	var result *rows
	err = s.run(ctx, true, func(c *conn) error {
		r, err := c.std.QueryContext(ctx, query, c.bypass(query, args))
		if err == nil {
			c.reading = c.depth > 0
			result = newRows(c, r.(*stdlib.Rows), !c.reading)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return result, nil
}

// Ping implements driver.Pinger. It answers for the database, not for one connection: a dead one is replaced, even if
// the ping had been sent, since it does nothing.
func (s *session) Ping(ctx context.Context) error {
	for try := 0; ; try++ {
		fresh, err := s.use(ctx)
		if err != nil {
			return err
		}
		c := s.c
		if err = c.ping(ctx, s.pool.pingTimeout, guard.Cancelling); err == nil {
			return nil
		}
		lost := c.pg.IsClosed() && ctx.Err() == nil
		if lost {
			s.pool.invalidate(c.generation, err)
		}
		if !lost || !fresh || try >= rebinds {
			return c.explain(err, false)
		}
		s.giveBack()
	}
}

// real is what went wrong on the connection, where stdlib says only driver.ErrBadConn, which must not reach
// database/sql, and pgx that the connection is closed.
func (c *conn) real(err error) error {
	if errors.Is(err, driver.ErrBadConn) {
		err = errLost
		if c.cause != nil {
			err = c.cause
		}
	}
	if lost := c.tap.Err(); lost != nil && (err == errLost || errors.Is(err, pgconn.ErrConnClosed)) {
		return lost
	}
	return err
}

// explain turns a statement's error into the one that the caller gets: the server's as it is, unless command_timeout or
// the caller's context was the reason; otherwise with what is known about whether the statement ran.
func (c *conn) explain(err error, unsent bool) error {
	err = c.real(err)
	if c.depth > 0 {
		return err // refused, since the rows of another statement are open: whose fate the guard's is
	}
	if c.commits || c.unconfirmed != nil {
		return c.outcome(err, unsent)
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
func (c *conn) explainLoss(err error, unsent bool) error {
	ended := pgerror.From(err) != nil
	switch {
	case c.txOpen && ended:
		return c.rolledBack("the server ended the session, the transaction is rolled back", err)
	case c.txOpen && unsent:
		return c.rolledBack("the connection was lost before the statement was sent, the transaction is rolled back", err)
	case c.txOpen:
		return c.rolledBack("the connection was lost after the statement was sent, the transaction is rolled back", err)
	case ended:
		return err
	case unsent:
		return fmt.Errorf("pgprod: pool %s: the connection was lost before the statement was sent: %w", c.pool.cfg.PoolName, err)
	}
	return fmt.Errorf("pgprod: pool %s: the connection was lost after the statement was sent, whether it ran is unknown: %w",
		c.pool.cfg.PoolName, err)
}

// explainLent is explain for what a function returned that the connection was lent to: its own error, unless pgx's is
// in it for a statement that was cut short.
func (c *conn) explainLent(err error) error {
	var network net.Error
	if pgerror.From(err) != nil || errors.As(err, &network) && network.Timeout() {
		if cut := c.cutShort(err, c.lentCut); cut != nil {
			return cut
		}
	}
	return err
}

// lookAtPlan is what to do about a statement that took too long.
const lookAtPlan = " (look at its plan with EXPLAIN, and in pg_stat_activity at what it waits for)"

// closeRows is what to do if its rows had come.
const closeRows = " (look first whether its rows are closed as soon as they are read)"

// lookAtStandbys is what to do about a COMMIT that took too long.
const lookAtStandbys = " (a COMMIT that takes long as a rule waits for a synchronous standby to confirm it: look at pg_stat_replication)"

// cutShort returns the error for a statement that didn't get the time it needed, nil for any other.
func (c *conn) cutShort(err error, fate fate) error {
	if pgerror.From(err) != nil && !pgerror.IsCanceled(err) {
		return nil
	}
	cut := &cutError{pool: c.pool.cfg.PoolName, ctx: context.DeadlineExceeded, hint: lookAtPlan, cause: err}
	switch {
	case fate.Caller != nil:
		cut.why, cut.ctx, cut.hint = fate.byCaller(), fate.Caller, ""
	case fate.TimedOut:
		cut.why = fmt.Sprintf("the statement exceeded command_timeout (%v)", c.pool.cfg.CommandTimeout) + fate.whileReading()
		switch {
		case fate.reading:
			cut.hint = closeRows
		case c.commits:
			cut.hint = lookAtStandbys
		}
	case pgerror.IsStatementTimeout(err):
		cut.why = "the server's statement_timeout ended the statement"
	default:
		return nil
	}
	return cut
}

// OnlySession returns a session that closes the pool when it is closed.
func (p *Pool) OnlySession() driver.Conn { return &onlySession{session{pool: p}} }

type onlySession struct{ session }

// Close implements driver.Conn.
func (s *onlySession) Close() error {
	s.giveBack()
	return s.pool.Close()
}
