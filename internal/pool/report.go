package pool

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/quiet"
)

// report tells whoever wants to know of a statement that has ended: the log, if it failed or was slow or all are
// wanted, and the live page.
func (c *conn) report(ctx context.Context, tag pgconn.CommandTag, err error, took time.Duration) {
	if c.repeats(err) {
		return
	}
	p := c.pool
	if err == nil {
		c.visit.ended(c.what, c.sql, tag.String())
	}
	waited := c.waited
	c.waited, c.reading = 0, false
	if seen := p.statements.Load(); seen != nil {
		seen.Record(c.summaryOf(c.what, c.sql), took, tag.RowsAffected(), err != nil)
	}
	switch {
	case err != nil:
		c.failed(ctx, err, took)
	case took+waited >= p.slow:
		c.wasSlow(ctx, tag, took, waited)
	case p.cfg.Echo:
		p.write(ctx, slog.LevelInfo, "pgprod: statement", 0, c.statementAttrs(tag, took)...)
	}
}

// repeats reports whether the session tries the statement that failed again.
func (c *conn) repeats(err error) bool {
	return err != nil && (c.mayRebind && c.unsent() || c.mayReplan && c.outdated(err))
}

// unsent reports whether the connection died before a byte of the statement was written.
func (c *conn) unsent() bool { return c.pg.IsClosed() && c.tap.Mark() == c.mark }

// neverSlow is slow_query=0.
const neverSlow = math.MaxInt64

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

// maxEcho bounds the text of a statement in a line of log.
const maxEcho = 2000

// shortText is a statement's text as it is logged.
func shortText(text string) string {
	if len(text) > maxEcho {
		return strings.ToValidUTF8(text[:maxEcho], "") + "…"
	}
	return text
}

func (c *conn) statementAttrs(tag pgconn.CommandTag, took time.Duration) []slog.Attr {
	text := c.what
	if c.sql != "" {
		text = strings.TrimSpace(c.what + " " + c.target.Summary(c.sql).Text)
	}
	return []slog.Attr{slog.String("statement", shortText(text)), duration("duration", took), slog.Int64("rows", tag.RowsAffected())}
}

func (c *conn) wasSlow(ctx context.Context, tag pgconn.CommandTag, took, waited time.Duration) {
	p, summary := c.pool, c.summaryOf(c.what, c.sql)
	if took < waited { // which is the pool's matter and no statement's
		p.news.Tell("waited", p.line(ctx, slog.LevelWarn, "pgprod: a caller waited long for a connection",
			duration("waited", waited), slog.String("summary", summary), duration("duration", took)))
		return
	}
	attrs := append([]slog.Attr{slog.String("summary", summary), duration("waited", waited)}, c.statementAttrs(tag, took)...)
	p.tell("slow "+summary, p.line(ctx, slog.LevelWarn, "pgprod: slow statement", attrs...))
}

// tell is quiet's, but for somebody who wants to read every statement.
func (p *Pool) tell(kind string, tell func(quiet.Repeats)) {
	if p.cfg.Echo {
		tell(quiet.Repeats{})
		return
	}
	p.quiet.Tell(kind, tell)
}

// cutOff notes what the error of a statement that was cut short will say.
func (c *conn) cutOff() {
	c.cutAfter, c.cutReading = time.Duration(clock.Now()-c.began), c.reading
	c.lentCut = c.fate()
}

// failed logs a statement that failed.
func (c *conn) failed(ctx context.Context, err error, took time.Duration) {
	p := c.pool
	err = c.real(err)
	summary, kind, message := c.summaryOf(c.what, c.sql), instruments.ErrorType(err), instruments.Describe(err, c.callersText())
	if cut, ok := c.cutShort(err, c.fate()).(*cutError); ok {
		message = cut.why
	} else if errors.Is(err, pgconn.ErrConnClosed) {
		message = errLost.Error() // and not what pgx couldn't do on it any more
	}
	attrs := []slog.Attr{
		slog.String("summary", summary), slog.String("error_type", kind), slog.String("error_message", message),
	}
	repeats := "failed " + kind
	pg := pgerror.From(err)
	if pg != nil {
		attrs = append(attrs, slog.String("sqlstate", pg.Code))
		if name := instruments.Constraint(pg); name != "" {
			attrs = append(attrs, slog.String("constraint", name))
		}
		if !pgerror.HitsAll(pg) {
			repeats += " " + summary
		}
	}
	attrs = append(attrs, duration("duration", took))
	level, text := c.severity(err), summary+": "+message+sqlState(pg)
	switch level {
	case slog.LevelError:
		p.errors.Add("statement", repeats, text)
	case slog.LevelWarn:
		p.errors.Warn("statement", repeats, text)
	}
	if p.log().Enabled(ctx, level) { // a line that nobody gets shall not count as one
		p.tell(repeats, p.line(ctx, level, "pgprod: statement failed", attrs...))
	}
}

// wasAbandoned logs a statement whose end nobody saw. What cut it short isn't looked at: pgx may still watch its context.
func (c *conn) wasAbandoned() {
	c.waited, c.reading = 0, false
	summary := c.summaryOf(c.what, c.sql)
	c.pool.tell("abandoned "+summary, c.pool.line(context.Background(), slog.LevelError, "pgprod: statement failed",
		slog.String("summary", summary),
		slog.String("error_type", instruments.ErrorType(instruments.ErrAbandoned)),
		slog.String("error_message", instruments.ErrAbandoned.Error())))
}

func sqlState(pg *pgconn.PgError) string {
	if pg == nil {
		return ""
	}
	return " (SQLSTATE " + pg.Code + ")"
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

// oneLine is an error's text in one line.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

func pidText(c *conn) string { return strconv.FormatUint(uint64(c.pg.PID()), 10) }
