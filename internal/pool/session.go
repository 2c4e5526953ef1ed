package pool

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/link"
)

// A session is what the application's *sql.DB takes for a connection. It borrows a connection of the pool at its first use,
// and gives it back when the *sql.DB puts it away, which it learns when database/sql calls IsValid or Close. database/sql
// calls its methods one at a time.
//
// It never returns driver.ErrBadConn: that would make database/sql run the statement again, whether it has run or not.
type session struct {
	pool   *Pool
	m      *member   // the connection that is borrowed; nil: none is
	moving link.Move // a transaction that goes on on the connection that is borrowed next
	over   bool      // runtime.Goexit has ended a statement: the session gets no connection any more
}

var (
	_ driver.Conn               = (*session)(nil)
	_ driver.ConnPrepareContext = (*session)(nil)
	_ driver.ConnBeginTx        = (*session)(nil)
	_ driver.ExecerContext      = (*session)(nil)
	_ driver.QueryerContext     = (*session)(nil)
	_ driver.Pinger             = (*session)(nil)
	_ driver.NamedValueChecker  = (*session)(nil)
	// Because it has both of these, database/sql keeps a session whose transaction's context ends, and calls Rollback, which
	// leaves the connection usable.
	_ driver.SessionResetter = (*session)(nil)
	_ driver.Validator       = (*session)(nil)
	_ driver.Tx              = (*session)(nil)
)

// Session returns a new session for an application's *sql.DB. It does no I/O.
func (p *Pool) Session() driver.Conn { return &session{pool: p} }

// Conn returns pgx's connection to callers of (*sql.Conn).Raw, which know the method from pgx's stdlib. It borrows a
// connection if the session has none, and returns nil if it gets none within pool_timeout; a PingContext before Raw says
// why. The caller may use the connection until Raw returns.
func (s *session) Conn() *pgx.Conn {
	if err := s.lend(context.Background()); err != nil {
		return nil
	}
	return s.m.conn.Pgx()
}

// Raw calls fn with pgx's connection. The root package's Raw calls it. If fn panics, or leaves a transaction or rows open,
// the connection is closed when it is given back.
func (s *session) Raw(ctx context.Context, fn func(*pgx.Conn) error) error {
	if err := s.lend(ctx); err != nil {
		return err
	}
	return s.m.conn.Raw(fn)
}

// IsValid implements driver.Validator. database/sql calls it when it puts the session away, and so it gives the connection
// back. A session that is over is not kept.
func (s *session) IsValid() bool {
	s.moving = link.Move{}
	s.giveBack()
	return !s.over
}

// Close implements driver.Conn. database/sql has called IsValid before, except after a panic in (*sql.Conn).Raw or
// driver.ErrBadConn from it. Then the session still has its connection, in an unknown state, and that one is closed.
func (s *session) Close() error {
	if s.m != nil {
		s.m.conn.Soil()
	}
	s.giveBack()
	return nil
}

// ResetSession implements driver.SessionResetter. A session that holds no connection has nothing to reset.
func (s *session) ResetSession(context.Context) error { return nil }

// CheckNamedValue implements driver.NamedValueChecker: pgx takes any argument as it is.
func (s *session) CheckNamedValue(*driver.NamedValue) error { return nil }

// ensureConn borrows a connection if the session has none, and makes one that it has safe for the next statement.
// borrowedNow reports that this call has borrowed it: no earlier statement depends on this very connection, and if it dies,
// the statement may be tried on another one. since is when it was tried first, by package clock, and pool_timeout counts from
// then on; 0: it was not tried yet.
func (s *session) ensureConn(ctx context.Context, since int64) (borrowedNow bool, err error) {
	switch {
	case s.over:
		return false, errPanicked
	case s.m != nil && s.m.conn.FoundDead():
		s.leave()
	}
	if s.m == nil {
		if err := s.borrow(ctx, since); err != nil {
			return false, err
		}
		s.m.conn.TakeOver(s.moving)
		s.moving = link.Move{}
		return true, nil
	}
	s.pool.watchSilence()
	if err := s.m.conn.Ready(ctx); err != nil {
		return false, s.m.conn.Explain(err, true)
	}
	return false, nil
}

// leave gives the session's connection back, because it is of no use. A transaction of which nothing was sent yet goes on on
// the connection that the session borrows next.
func (s *session) leave() {
	s.moving = s.m.conn.TakeTx()
	s.giveBack()
}

// text returns what is sent to the server for a statement: its text, with the tags that the application asked for. It
// refuses a COPY that database/sql can't serve.
func (s *session) text(ctx context.Context, query string) (string, error) {
	if link.CopiesIn(query) {
		return "", errCopyIn
	}
	if c := s.pool.hooks.Commenter; c != nil {
		return c.Append(ctx, query), nil
	}
	return query, nil
}

var errCopyIn = errors.New("pgprod: COPY … FROM STDIN can't be sent by database/sql: use CopyFrom of the *pgx.Conn that " +
	"pgprod.Raw lends, or inside a transaction (*sql.Conn).Raw")

// ExecContext implements driver.ExecerContext.
func (s *session) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (res driver.Result, err error) {
	if query, err = s.text(ctx, query); err != nil {
		return nil, err
	}
	// Without arguments the text may be several statements, of which some have run when another is refused.
	err = s.run(ctx, len(args) > 0, func(c *link.Conn) (err error) {
		res, err = c.Exec(ctx, query, args)
		return err
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

// QueryContext implements driver.QueryerContext.
func (s *session) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (result driver.Rows, err error) {
	if query, err = s.text(ctx, query); err != nil {
		return nil, err
	}
	err = s.run(ctx, true, func(c *link.Conn) (err error) {
		result, err = c.Query(ctx, query, args)
		return err
	})
	if err != nil {
		return nil, err
	}
	return result, nil
}

// Ping implements driver.Pinger. It answers for the database and not for one connection: if the one that was borrowed for it
// is dead, it tries another, even if the ping was sent, since a ping may be repeated safely.
func (s *session) Ping(ctx context.Context) error {
	for try := 0; ; try++ {
		borrowedNow, err := s.ensureConn(ctx, 0)
		if err != nil {
			return err
		}
		m := s.m
		if err = m.conn.Ping(ctx, s.pool.dialer.PingTimeout(), guard.Cancelling); err == nil {
			return nil
		}
		died := m.conn.Closed() && ctx.Err() == nil // otherwise it was closed because the caller's context has ended
		if died {
			m.Lost(m.conn, err)
		}
		if !died || !borrowedNow || try >= rebinds {
			return m.conn.Explain(err, false)
		}
		s.giveBack()
	}
}

// Begin implements driver.Conn. database/sql calls BeginTx in its place.
func (s *session) Begin() (driver.Tx, error) {
	return s.BeginTx(context.Background(), driver.TxOptions{})
}

// BeginTx implements driver.ConnBeginTx. The session itself is the transaction: database/sql has one at a time on it.
func (s *session) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	options, err := txOptions(opts)
	if err != nil {
		return nil, err
	}
	if err := link.AlreadyEnded(ctx); err != nil {
		return nil, err
	}
	if err := s.run(ctx, false, func(c *link.Conn) error { return c.Begin(ctx, options) }); err != nil {
		return nil, err
	}
	return s, nil
}

// txOptions translates the options of database/sql into pgx's. Snapshot is Repeatable Read, which in PostgreSQL is one.
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

// Commit implements driver.Tx. There is no connection any more if runtime.Goexit has ended a statement of the transaction.
func (s *session) Commit() error {
	if s.m == nil {
		return s.endMoving()
	}
	s.pool.watchSilence()
	return s.unlessEnded(s.m.conn.Commit)
}

// Rollback implements driver.Tx.
func (s *session) Rollback() error {
	if s.m == nil {
		return s.endMoving()
	}
	s.pool.watchSilence()
	return s.unlessEnded(s.m.conn.Rollback)
}

// endMoving ends a transaction that has lost its connection before anything of it was sent, and has found no other: there is
// nothing to commit and nothing to roll back.
func (s *session) endMoving() error {
	if !s.moving.UnderWay() {
		return sql.ErrTxDone
	}
	s.moving = link.Move{}
	return nil
}

// OnlySession returns a session that owns the pool: closing it closes the pool. It is for driver.Driver.Open, of whose
// connection nobody else closes the pool.
func (p *Pool) OnlySession() driver.Conn { return &onlySession{session{pool: p}} }

type onlySession struct{ session }

var _ driver.Conn = (*onlySession)(nil)

// Close implements driver.Conn. It gives the connection back, which closes with the pool.
func (s *onlySession) Close() error {
	s.giveBack()
	return s.pool.Close()
}
