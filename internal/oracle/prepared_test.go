package oracle

import (
	"context"
	"database/sql"
	"errors"
	"slices"
)

// statementHandle is a *sql.Stmt, or what stands for one on the side of pgx: see unprepared.
type statementHandle interface {
	QueryContext(ctx context.Context, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, args ...any) *sql.Row
	ExecContext(ctx context.Context, args ...any) (sql.Result, error)
	Close() error
}

// unprepared is what pgprod makes of a *sql.Stmt in the modes that prepare nothing: its text, sent as any other is.
type unprepared struct {
	querier
	text string
}

func (u unprepared) QueryContext(ctx context.Context, args ...any) (*sql.Rows, error) {
	return u.querier.QueryContext(ctx, u.text, args...)
}

func (u unprepared) QueryRowContext(ctx context.Context, args ...any) *sql.Row {
	return u.querier.QueryRowContext(ctx, u.text, args...)
}

func (u unprepared) ExecContext(ctx context.Context, args ...any) (sql.Result, error) {
	return u.querier.ExecContext(ctx, u.text, args...)
}

func (u unprepared) Close() error { return nil }

// prepared is a *sql.Stmt, whose text is its own.
type prepared struct{ stmt statementHandle }

func (p prepared) QueryContext(ctx context.Context, _ string, args ...any) (*sql.Rows, error) {
	return p.stmt.QueryContext(ctx, args...)
}

func (p prepared) QueryRowContext(ctx context.Context, _ string, args ...any) *sql.Row {
	return p.stmt.QueryRowContext(ctx, args...)
}

func (p prepared) ExecContext(ctx context.Context, _ string, args ...any) (sql.Result, error) {
	return p.stmt.ExecContext(ctx, args...)
}

func (p prepared) PrepareContext(context.Context, string) (*sql.Stmt, error) {
	return nil, errors.New("a statement prepares none")
}

func (s prepare) do(w *world, o *observation) {
	q, l, err := w.at(s.place)
	if err != nil {
		o.skip("%v", err)
		return
	}
	w.vacate(o, s.stmt)
	ctx, cancel := s.ends.context()
	defer cancel()
	stmt, err := w.prepare(ctx, q, s.text.text)
	o.fault("error", err)
	if err == nil {
		w.stmt[s.stmt] = &stmtHandle{stmt: stmt, lease: l, conn: w.connOf(s.place), text: s.text}
		w.side.know(w.db, s.text.text)
		for _, x := range w.tx {
			if x != nil && l != nil && x.lease == l {
				x.prepares = true
			}
		}
	}
}

// vacate closes the statement that has a number.
func (w *world) vacate(o *observation, n int) {
	if old := w.stmt[n]; old != nil {
		o.fault("close of stmt", old.stmt.Close())
		w.stmt[n] = nil
	}
}

// prepare prepares a statement, unless it is for pgx in a mode in which pgprod wouldn't.
func (w *world) prepare(ctx context.Context, q querier, text string) (statementHandle, error) {
	if w.side.name == "pgx" && w.mode != "cache_statement" {
		if ctx.Err() != nil {
			return q.PrepareContext(ctx, text) // which does nothing but say so
		}
		if q == querier(w.db) && w.closed {
			return nil, errors.New("sql: database is closed")
		}
		if slices.ContainsFunc(w.tx[:], func(x *txHandle) bool { return x != nil && x.tx == q && x.done }) {
			return nil, sql.ErrTxDone
		}
		return unprepared{q, text}, nil
	}
	return q.PrepareContext(ctx, text)
}

func (s txStmt) do(w *world, o *observation) {
	x, st := w.tx[s.tx], w.stmt[s.from]
	if x == nil || st == nil || s.stmt == s.from {
		o.skip("there is no tx%d or no stmt%d", s.tx, s.from)
		return
	}
	w.vacate(o, s.stmt)
	var stmt statementHandle = unprepared{x.tx, st.text.text}
	if st, ok := st.stmt.(*sql.Stmt); ok {
		stmt = x.tx.Stmt(st)
	}
	x.prepares = true
	w.stmt[s.stmt] = &stmtHandle{stmt: stmt, lease: x.lease, ofTx: true, text: st.text}
}

func (s closeStmt) do(w *world, o *observation) {
	if st := w.stmt[s.stmt]; st != nil {
		o.fault("close of stmt", st.stmt.Close())
		if w.mode != "cache_statement" {
			w.stmt[s.stmt] = nil // unprepared doesn't know that it is closed
		}
		return
	}
	o.skip("there is no stmt%d", s.stmt)
}
