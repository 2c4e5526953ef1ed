package pool

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/diagnose"
	"github.com/pgprod/pgprod/internal/diary"
	"github.com/pgprod/pgprod/internal/hosts"
	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/pgerror"
)

// An observer receives what a link.Conn reports. It puts reports into words for the diary, and passes on to the pool what
// concerns other connections as well. Each connection has its own, those of health checks included.
type observer struct {
	pool  *Pool
	epoch uint64 // that of places when the connection was about to be made
}

var _ link.Observer = (*observer)(nil)

// newObserver returns the observer of a connection that is about to be made.
func (p *Pool) newObserver() *observer {
	return &observer{pool: p, epoch: p.places.epoch.Load()}
}

// Ended implements link.Observer.
func (o *observer) Ended(ctx context.Context, s *link.Statement) {
	entry := diary.Statement{
		Named: s, Took: s.Took, Waited: s.Waited, Server: s.Server, Read: s.Read, Cause: s.Cause,
	}
	if s.Err != nil {
		entry.Error = statementError(s)
	}
	o.pool.diary.Statement(ctx, entry)
	if o.pool.plans.Wanted() && s.Took >= o.pool.cfg.SlowQuery && s.Kind == "" {
		o.pool.wantPlan(s)
	}
}

// wantPlan has the server explain a statement that was slow.
func (p *Pool) wantPlan(s *link.Statement) {
	slow := diagnose.Slow{Summary: s.Summary(), SQL: s.SQL, Took: s.Took}
	slow.At, slow.Major = s.Where()
	if s.Cause != nil {
		slow.QueryID = s.Cause.QueryID
	}
	p.plans.Want(slow)
}

// statementError puts the failure of a statement into words that the diary may show: they contain no value of the statement.
func statementError(s *link.Statement) *diary.StatementError {
	err := s.Real()
	e := &diary.StatementError{Type: instruments.ErrorType(err), HitsAll: true, Level: severity(s, err), Message: s.WhyCut()}
	switch {
	case e.Message != "":
	case errors.Is(err, pgconn.ErrConnClosed):
		e.Message = link.ErrLost.Error() // pgx's text says what it tried on the closed connection
	default:
		e.Message = instruments.Describe(err, s.CallersText())
	}
	if pg := pgerror.From(err); pg != nil {
		e.SQLState, e.Constraint, e.HitsAll = pg.Code, instruments.Constraint(pg), pgerror.HitsAll(pg)
	}
	return e
}

// severity returns the level of the line about a statement that failed: debug if the caller cancelled it, or its transaction
// was committed before, warning if an application has to expect such failures (broken constraints, transactions that were
// rolled back in favour of others), else error.
func severity(s *link.Statement, err error) slog.Level {
	switch {
	case errors.Is(s.CutByCaller(), context.Canceled), errors.Is(err, context.Canceled), errors.Is(err, link.ErrAlreadyDone):
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
func (o *observer) CommitUnknown(why link.Unknown, err error) { o.pool.noteUnknown(why, err) }

// noteUnknown counts a COMMIT whose outcome is unknown, and tells the diary.
func (p *Pool) noteUnknown(why link.Unknown, err error) {
	b := &p.books
	b.mu.Lock()
	b.unknown[why]++
	b.mu.Unlock()
	p.diary.CommitUnknown(string(why), why.Text(), instruments.Describe(err, ""))
}

// Lost implements link.Observer.
func (o *observer) Lost(c *link.Conn, cause error) { o.pool.invalidate(c, o.epoch, cause) }

// Silent implements link.Observer.
func (o *observer) Silent() { o.pool.suspect() }

// failure puts an error of connecting or waiting into words that the diary may show: they contain no password.
func failure(err error) diary.Failure {
	return diary.Failure{Type: instruments.ErrorType(err), Sort: sortOf(err), Text: link.SafeText(err)}
}

// sortOf returns the same words for errors that are one entry in the live page's list, though the numbers in their texts
// differ.
func sortOf(err error) string {
	if failed, ok := errors.AsType[*link.DialError](err); ok {
		return instruments.ErrorType(err) + " " + failed.Advice()
	}
	return instruments.ErrorType(err)
}

// noteUnserved tells the diary that a caller got no connection, unless the caller cancelled its context or the pool is
// closed.
func (p *Pool) noteUnserved(ctx context.Context, err error, waited time.Duration) {
	if !p.closed.Load() && !errors.Is(err, context.Canceled) {
		p.diary.Unserved(ctx, failure(err), waited)
	}
}

// noteDialFailure tells the diary that a dial has failed, unless Close has ended it.
func (p *Pool) noteDialFailure(ctx context.Context, err *link.DialError) {
	if !p.closed.Load() && ctx.Err() != context.Canceled {
		p.diary.DialFailed(ctx, failure(err), err.Final)
	}
}

// noteLoss tells the diary that a connection was lost. invalidate calls it, once for all connections of one age to one place. Of
// a host among several that is silent or deposed there is a line already, see hostChanged.
func (p *Pool) noteLoss(cause error) {
	f := diary.Failure{Type: instruments.ErrorType(cause), Text: lossText(cause)}
	_, silent := errors.AsType[*hosts.SilentError](cause)
	switch {
	case silent && p.scout == nil:
		p.diary.Silent(f)
	case silent, cause == hosts.ErrDeposed:
		p.diary.Replaced(f)
	default:
		p.diary.Lost(f)
	}
}
