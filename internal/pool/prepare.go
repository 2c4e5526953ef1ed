package pool

import (
	"context"
	"database/sql/driver"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/pgprod/pgprod/internal/link"
)

// A statement is the driver.Stmt of the application's *sql.DB. It holds nothing on the server: it is a text and the number
// of its parameters. It runs on the connection that its session has borrowed then, and pgx prepares it there if it isn't in
// that connection's cache (an LRU of 512 statements; statement_cache_capacity in the DSN).
type statement struct {
	s      *session
	query  string
	inputs int // the number of parameters; -1: not known without asking the server
}

var (
	_ driver.Stmt             = (*statement)(nil)
	_ driver.StmtExecContext  = (*statement)(nil)
	_ driver.StmtQueryContext = (*statement)(nil)
)

// Close implements driver.Stmt. It closes nothing on the server: what pgx has prepared stays in its cache, which is bounded,
// and serves the next statement with the same text.
func (st *statement) Close() error { return nil }

// NumInput implements driver.Stmt.
func (st *statement) NumInput() int { return st.inputs }

// Exec implements driver.Stmt; database/sql calls ExecContext.
func (st *statement) Exec([]driver.Value) (driver.Result, error) {
	return nil, errors.New("pgprod: Stmt.Exec is not supported, use ExecContext")
}

// Query implements driver.Stmt; database/sql calls QueryContext.
func (st *statement) Query([]driver.Value) (driver.Rows, error) {
	return nil, errors.New("pgprod: Stmt.Query is not supported, use QueryContext")
}

// ExecContext implements driver.StmtExecContext.
func (st *statement) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return st.s.ExecContext(ctx, st.query, args)
}

// QueryContext implements driver.StmtQueryContext.
func (st *statement) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return st.s.QueryContext(ctx, st.query, args)
}

// Prepare implements driver.Conn.
func (s *session) Prepare(query string) (driver.Stmt, error) {
	return s.PrepareContext(context.Background(), query)
}

// PrepareContext implements driver.ConnPrepareContext. It has the server parse a text once in each pool, so that a wrong
// statement fails here. When database/sql prepares the same text again for another session, that costs nothing. In the modes
// of pgx that keep no prepared statements (for poolers) the server is not asked.
func (s *session) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if err := link.AlreadyEnded(ctx); err != nil {
		return nil, err // where the server isn't asked, nobody else would look at the context
	}
	if s.pool.cfg.Conn.DefaultQueryExecMode != pgx.QueryExecModeCacheStatement {
		return &statement{s: s, query: query, inputs: -1}, nil
	}
	if query == "" { // pgx executes it by the simple protocol, so that there is nothing to prepare
		return &statement{s: s, query: query, inputs: 0}, nil
	}
	if n, ok := s.pool.dialer.Parameters(query); ok {
		return &statement{s: s, query: query, inputs: n}, nil
	}
	text, err := s.text(ctx, query)
	if err != nil {
		return nil, err
	}
	n := 0
	err = s.run(ctx, false, func(c *link.Conn) (err error) {
		n, err = c.Prepare(ctx, text)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.pool.dialer.RememberParameters(query, n)
	return &statement{s: s, query: query, inputs: n}, nil
}
