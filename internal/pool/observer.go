package pool

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/diary"
	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/pgerror"
)

// An observer is told what happens on a connection, and tells the diary, or draws the pool's conclusions.
type observer struct {
	pool       *Pool
	generation uint64 // of the pool's connections, when this one was begun
}

var _ link.Observer = (*observer)(nil)

// newObserver returns the observer of a connection that is about to be made.
func (p *Pool) newObserver() *observer {
	return &observer{pool: p, generation: p.trust.generation.Load()}
}

// Ended implements link.Observer.
func (o *observer) Ended(ctx context.Context, s *link.Statement) {
	one := diary.Statement{Named: s, Took: s.Took, Waited: s.Waited, Rows: s.Tag.RowsAffected()}
	if s.Err != nil {
		one.Error = statementError(s)
	}
	o.pool.diary.Statement(ctx, one)
}

// statementError puts the failure of a statement into words that the diary may show.
func statementError(s *link.Statement) *diary.StatementError {
	err := s.Real()
	e := &diary.StatementError{Type: instruments.ErrorType(err), HitsAll: true, Level: severity(s, err), Message: s.WhyCut()}
	switch {
	case e.Message != "":
	case errors.Is(err, pgconn.ErrConnClosed):
		e.Message = link.ErrLost.Error() // and not what pgx couldn't do on it any more
	default:
		e.Message = instruments.Describe(err, s.CallersText())
	}
	if pg := pgerror.From(err); pg != nil {
		e.SQLState, e.Constraint, e.HitsAll = pg.Code, instruments.Constraint(pg), pgerror.HitsAll(pg)
	}
	return e
}

// severity is debug for what the caller did itself, and a warning for what an application has to expect: broken
// constraints, and transactions that gave way to others.
func severity(s *link.Statement, err error) slog.Level {
	switch {
	case errors.Is(s.CutByCaller(), context.Canceled), errors.Is(err, context.Canceled):
		return slog.LevelDebug
	case pgerror.IsExpected(err):
		return slog.LevelWarn
	}
	return slog.LevelError
}

// Abandoned implements link.Observer.
func (o *observer) Abandoned(s *link.Statement) {
	o.pool.diary.Abandoned(s, failure(instruments.ErrAbandoned))
}

// Warned implements link.Observer.
func (o *observer) Warned(n *pgconn.Notice, s *link.Statement) {
	var during diary.Named
	sql := ""
	if s != nil {
		during, sql = s, s.CallersText()
	}
	o.pool.diary.Warned(n.Code, during, func() string { return instruments.Describe((*pgconn.PgError)(n), sql) })
}

// CommitUnknown implements link.Observer.
func (o *observer) CommitUnknown(err error) {
	o.pool.diary.CommitUnknown(ErrCommitUnknown, instruments.Describe(err, ""))
}

// Lost implements link.Observer.
func (o *observer) Lost(cause error) { o.pool.invalidate(o.generation, cause) }

// Silent implements link.Observer.
func (o *observer) Silent() { o.pool.suspect() }

// failure puts an error into words that the diary may show.
func failure(err error) diary.Failure {
	return diary.Failure{Type: instruments.ErrorType(err), Sort: sortOf(err), Text: link.SafeText(err)}
}

// sortOf is what an error has in common with others of its sort, however often the numbers in their texts change.
func sortOf(err error) string {
	if dial, ok := errors.AsType[*link.DialError](err); ok {
		return instruments.ErrorType(err) + " " + dial.Advice()
	}
	return instruments.ErrorType(err)
}

// unserved tells the diary that a caller got no connection, unless that is the caller's own doing.
func (p *Pool) unserved(ctx context.Context, err error, waited time.Duration) {
	if !p.closed.Load() && !errors.Is(err, context.Canceled) {
		p.diary.Unserved(ctx, failure(err), waited)
	}
}

// dialFailed tells the diary that a dial has failed, unless it was Close that ended it.
func (p *Pool) dialFailed(ctx context.Context, err *link.DialError) {
	if !p.closed.Load() && ctx.Err() != context.Canceled {
		p.diary.DialFailed(ctx, failure(err), err.Final)
	}
}

// lost tells the diary that a connection was lost. It is called once for each generation.
func (p *Pool) lost(cause error) {
	f := diary.Failure{Type: instruments.ErrorType(cause), Text: cause.Error()}
	if cause != errFoundDead && cause != link.ErrLost {
		f.Text = instruments.Describe(cause, "") // a function may raise what says that the server is read-only
	}
	p.diary.Lost(f)
}
