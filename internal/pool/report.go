package pool

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/diary"
	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/pgerror"
)

// report tells the diary of a statement that has ended, unless the session tries it again.
func (c *conn) report(ctx context.Context, tag pgconn.CommandTag, err error, took time.Duration) {
	if c.repeats(err) {
		return
	}
	s := diary.Statement{Named: c, Took: took, Waited: c.waited, Rows: tag.RowsAffected()}
	c.waited, c.reading = 0, false
	if err == nil {
		c.visit.ended(c.what, c.sql, tag.String())
	} else {
		s.Error = c.statementError(err)
	}
	c.pool.diary.Statement(ctx, s)
}

// repeats reports whether the session tries the statement that failed again.
func (c *conn) repeats(err error) bool {
	return err != nil && (c.mayRebind && c.unsent() || c.mayReplan && c.outdated(err))
}

// unsent reports whether the connection died before a byte of the statement was written.
func (c *conn) unsent() bool { return c.pg.IsClosed() && c.tap.Mark() == c.mark }

// Summary and Text name the statement under way, or the last, to the diary.
var _ diary.Named = (*conn)(nil)

// Summary implements diary.Named.
func (c *conn) Summary() string { return c.summaryOf(c.what, c.sql) }

// Text implements diary.Named.
func (c *conn) Text() string {
	if c.sql == "" {
		return c.what
	}
	return strings.TrimSpace(c.what + " " + c.target.Summary(c.sql).Text)
}

// summaryOf names a statement in few words and without a literal.
func (c *conn) summaryOf(what, sql string) string {
	if sql == "" {
		return what
	}
	summary := c.target.Summary(sql).Summary
	if what != "" {
		summary = strings.TrimSpace(what + " " + summary)
	}
	return summary
}

// cutOff notes what the error of a statement that was cut short will say.
func (c *conn) cutOff() {
	c.cutAfter, c.cutReading = time.Duration(clock.Now()-c.began), c.reading
	c.lentCut = c.fate()
}

// statementError puts the failure of a statement into words that the diary may show.
func (c *conn) statementError(err error) *diary.StatementError {
	err = c.real(err)
	e := &diary.StatementError{Type: instruments.ErrorType(err), HitsAll: true}
	if cut, ok := c.cutShort(err, c.fate()).(*cutError); ok {
		e.Message = cut.why
	} else if errors.Is(err, pgconn.ErrConnClosed) {
		e.Message = errLost.Error() // and not what pgx couldn't do on it any more
	} else {
		e.Message = instruments.Describe(err, c.callersText())
	}
	if pg := pgerror.From(err); pg != nil {
		e.SQLState, e.Constraint, e.HitsAll = pg.Code, instruments.Constraint(pg), pgerror.HitsAll(pg)
	}
	e.Level = c.severity(err)
	return e
}

// wasAbandoned tells the diary of a statement whose end nobody saw. What cut it short isn't looked at: pgx may still watch
// its context.
func (c *conn) wasAbandoned() {
	c.waited, c.reading = 0, false
	c.pool.diary.Abandoned(c, failure(instruments.ErrAbandoned))
}

// severity is debug for what the caller did itself, and a warning for what an application has to expect: broken
// constraints, and transactions that gave way to others.
func (c *conn) severity(err error) slog.Level {
	switch {
	case errors.Is(c.guard.Cut().Caller, context.Canceled), errors.Is(err, context.Canceled):
		return slog.LevelDebug
	case pgerror.IsExpected(err):
		return slog.LevelWarn
	}
	return slog.LevelError
}
