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

// A session is what the application's *sql.DB takes for a connection. It is weightless until its first use, and again
// from the moment when the *sql.DB puts it away, which database/sql tells it by asking IsValid (or by closing it).
//
// It never returns driver.ErrBadConn: that would make database/sql run the statement again.
type session struct {
	pool *Pool
	m    *member // nil: no connection is borrowed
	over bool    // runtime.Goexit in a statement has ended it: it gets no connection any more
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
	return s.m.conn.Pgx(context.Background())
}

// Lend calls fn with the connection below. A panic in fn, or what fn leaves behind (an open transaction, rows that are
// still being read), costs the connection.
func (s *session) Lend(ctx context.Context, fn func(*pgx.Conn) error) error {
	if _, err := s.use(ctx); err != nil {
		return err
	}
	return s.m.conn.Raw(ctx, fn)
}

// IsValid implements driver.Validator: the session is being put away.
func (s *session) IsValid() bool {
	s.giveBack()
	return !s.over
}

// Close implements driver.Conn. database/sql calls IsValid before, except after a panic in (*sql.Conn).Raw, or
// driver.ErrBadConn from it: then the connection is still here, in a state that nobody knows.
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

// use makes sure that there is a connection, and reports whether it was borrowed just now: then nothing depends on its
// being this one, and a statement may be tried on another.
func (s *session) use(ctx context.Context) (borrowedNow bool, err error) {
	switch {
	case s.over:
		return false, errPanicked
	case s.m == nil:
		return true, s.borrow(ctx)
	}
	if err := s.m.conn.Ready(ctx); err != nil {
		return false, s.m.conn.Explain(err, true)
	}
	return false, nil
}

// text is what goes to the server: the statement, with the tags that the application asked for.
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

// Ping implements driver.Pinger. It answers for the database, not for one connection: a dead one is replaced, even if
// the ping had been sent, since it does nothing.
func (s *session) Ping(ctx context.Context) error {
	for try := 0; ; try++ {
		borrowedNow, err := s.use(ctx)
		if err != nil {
			return err
		}
		m := s.m
		if err = m.conn.Ping(ctx, s.pool.dialer.PingTimeout(), guard.Cancelling); err == nil {
			return nil
		}
		lost := m.conn.Closed() && ctx.Err() == nil
		if lost {
			m.Lost(err)
		}
		if !lost || !borrowedNow || try >= rebinds {
			return m.conn.Explain(err, false)
		}
		s.giveBack()
	}
}

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
	if err := link.AlreadyEnded(ctx); err != nil {
		return nil, err
	}
	if err := s.run(ctx, false, func(c *link.Conn) error { return c.Begin(ctx, options) }); err != nil {
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

// Commit implements driver.Tx.
func (s *session) Commit() error {
	if s.m == nil {
		return sql.ErrTxDone
	}
	return s.unlessEnded(s.m.conn.Commit)
}

// Rollback implements driver.Tx.
func (s *session) Rollback() error {
	if s.m == nil {
		return sql.ErrTxDone
	}
	return s.unlessEnded(s.m.conn.Rollback)
}

// OnlySession returns a session that closes the pool when it is closed.
func (p *Pool) OnlySession() driver.Conn { return &onlySession{session{pool: p}} }

type onlySession struct{ session }

// Close implements driver.Conn.
func (s *onlySession) Close() error {
	s.giveBack()
	return s.pool.Close()
}
