package link

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/pgerror"
)

// A Statement is the outermost thing that pgx does at a caller's request: a query, a prepare, a batch or a COPY. It is made
// as a whole when that begins, and what is known of it after its end stays until the next one begins.
type Statement struct {
	Kind string // PREPARE, BATCH, COPY "table"; "" for a query, whose text says what it is
	SQL  string // without the tags of package sqlcomment; "" for a batch and a COPY

	Tag    pgconn.CommandTag
	Err    error         // as pgx has it, or the server's warning that what was committed is not replicated; nil for success
	Took   time.Duration // from begin to end
	Waited time.Duration // that the caller had waited for the connection, if this is its first statement

	conn *Conn
	args []any // of a query under way, as pgx has them

	began     int64 // by package clock
	mark      int64 // of the tap, when it began
	wasClosed bool  // the connection was closed when it began
	commits   bool  // it is a COMMIT
	copies    bool  // it is a COPY
	reading   bool  // rows have been handed to the caller

	plan    plan
	outcome outcome
	telling telling
}

// plan is what is known of how a query was prepared.
type plan struct {
	cached bool // pgx keeps what it has prepared or described for the query, which has failed
	anew   bool // what the query needed was not there yet: pgx had the server prepare it
}

// outcome is what became of a statement, as far as its caller has to know. What comes after the statement and is none, such
// as a ping, forgets it.
type outcome struct {
	tag         string          // "": none
	cause       error           // the last error that pgx reported, even of a statement within; stdlib says only driver.ErrBadConn
	unconfirmed *pgconn.PgError // the server's warning that it is committed here and by no synchronous standby
	cutAfter    time.Duration   // how long it had run when it was cut short; 0: not known
	cutReading  bool            // it was cut short while its rows were open
}

// telling is what telemetry has of a statement.
type telling struct {
	op      instruments.Operation
	ctx     context.Context // with the span, from the end until it was told
	held    bool            // the statement has ended, and nobody was told so far
	prepare preparing
}

// preparing is the last prepare: the statement itself, or within it.
type preparing struct {
	sql   string
	began time.Time
	ctx   context.Context // not nil: it has failed, and nobody was told so far
	err   error
}

// Summary names the statement in few words and without a literal.
func (s *Statement) Summary() string { return SummaryOf(s.conn.target, s.Kind, s.SQL) }

// SummaryOf names a statement of a kind in few words and without a literal.
func SummaryOf(t *instruments.Target, kind, sql string) string {
	if sql == "" {
		return kind
	}
	summary := t.Summary(sql).Summary
	if kind != "" {
		summary = strings.TrimSpace(kind + " " + summary)
	}
	return summary
}

// Text is the statement's text without a literal.
func (s *Statement) Text() string {
	if s.SQL == "" {
		return s.Kind
	}
	return strings.TrimSpace(s.Kind + " " + s.conn.target.Summary(s.SQL).Text)
}

// CallersText is the text of a statement as its caller wrote it: whatever way it goes, no argument is in it yet. Of a COPY
// it is that of pgx's question for the columns, the only one that can be wrong. It must not be shown to anybody.
func (s *Statement) CallersText() string {
	if s.copies {
		return s.telling.prepare.sql
	}
	return s.SQL
}

// Real is Err, or what has ended the connection where pgx says only that it is closed.
func (s *Statement) Real() error { return s.conn.Real(s.Err) }

// WhyCut says what cut the statement short, "" if nothing did.
func (s *Statement) WhyCut() string {
	if cut := s.conn.cutShort(s.Real(), s.conn.fate()); cut != nil {
		return cut.why
	}
	return ""
}

// CutByCaller is the error of the caller's context if that has ended the statement, nil otherwise.
func (s *Statement) CutByCaller() error { return s.conn.guard.Cut().Caller }

// An attempt is what the borrower's next statement is part of.
type attempt struct {
	holding bool  // a failure isn't told before it is known whether the statement is tried again
	mark    int64 // of the tap, when the attempt began

	carried instruments.Operation // that of the attempts before

	lent   int64         // by package clock: when the connection was lent
	waited time.Duration // for the connection, until the first statement was told
}

// begin is called when pgx begins something at a caller's request, and end when that is over: once more for a prepare
// within a query.
func (c *Conn) begin(kind, sql string) {
	if c.depth++; c.depth > 1 {
		return
	}
	c.stmt = Statement{
		Kind: kind, SQL: sql, conn: c, began: clock.Now(), mark: c.tap.Mark(), wasClosed: c.pg.IsClosed(),
		commits: kind == "" && commits(sql), Waited: c.attempt.waited,
	}
	how := guard.Cancelling
	if c.stmt.commits {
		how = guard.Waiting
	}
	c.guard.Begin(c.stmt.began, c.dialer.cfg.CommandTimeout, how)
	c.visit.began(kind, sql)
	c.doing.mu.Lock()
	c.doing.kind, c.doing.sql = kind, sql
	c.doing.mu.Unlock()
}

func (c *Conn) end(ctx context.Context, tag pgconn.CommandTag, err error) {
	if c.depth == 0 {
		return // pgx reports the end of a batch twice when it fails early
	}
	s := &c.stmt
	if err != nil {
		s.outcome.cause = err // even of one within another: a query is refused while the rows of the last are open
	}
	if c.depth--; c.depth > 0 {
		return
	}
	c.guard.End()
	now := clock.Now()
	s.Tag, s.Err, s.Took, s.telling.ctx = tag, err, time.Duration(now-s.began), ctx
	s.outcome.tag = tag.String()
	c.settleOutcome(now)
	if err != nil && c.attempt.holding {
		s.telling.held = true
	} else {
		c.tell()
	}
	if err != nil {
		c.learn(err)
	}
	if leavesTraces(s.outcome.tag, s.SQL) { // of several statements the first may have, though the last failed
		c.dirty = true
	}
}

// settleOutcome notes what the end of a statement says of the connection and its transaction.
func (c *Conn) settleOutcome(now int64) {
	s := &c.stmt
	if c.guard.Cut().Happened() {
		s.outcome.cutAfter, s.outcome.cutReading = s.Took, s.reading
		c.raw.cut = c.fate()
	}
	if s.outcome.unconfirmed != nil {
		c.raw.unconfirmed = s.outcome.unconfirmed
	}
	closed := c.pg.IsClosed()
	if !closed && c.pg.TxStatus() == 'I' {
		c.tx.open = false
	}
	if !closed && pgerror.ServerAnswered(s.Err) {
		c.heard.Store(now)
	}
	if s.Err == nil {
		c.visit.ended(s.Kind, s.SQL, s.outcome.tag)
	}
}

// tell ends what telemetry has of the statement, and tells the observer.
func (c *Conn) tell() {
	s := &c.stmt
	t := &s.telling
	if t.prepare.ctx != nil {
		c.tellPrepare(t.prepare.ctx, t.prepare.err)
	}
	ctx := t.ctx
	t.held, t.ctx = false, nil
	t.op.End(ctx, c.rowsOf(s.Tag), s.Err, s.CallersText())
	c.attempt.waited, s.reading = 0, false
	c.observer.Ended(ctx, s)
}

// tellPrepare has a span for a statement that the server was asked to prepare.
func (c *Conn) tellPrepare(ctx context.Context, err error) {
	p := &c.stmt.telling.prepare
	spanned, op := c.target.Prepared(ctx, p.sql, p.began)
	c.showWait(ctx, &op)
	op.End(spanned, -1, err, p.sql)
	p.ctx, p.err = nil, nil
}

// abandon ends what pgx has begun and not ended: a panic of the application's came between (in a driver.Valuer, a codec,
// a tracer), a function that the connection was lent to left rows or a batch open, or pgx doesn't tell of a failure.
// Otherwise the guard would go on and end the statements of others, and the span would never end. It costs the connection.
//
// What cut the statement short isn't looked at: pgx may still watch its context.
func (c *Conn) abandon() {
	s := &c.stmt
	switch {
	case c.depth == 0 && s.telling.held: // it has ended, and who would have decided whether to try again didn't come to it
		c.dirty = true
		c.tell()
		return
	case c.depth == 0 && !s.telling.op.UnderWay():
		return
	}
	c.depth = 0
	c.dirty = true
	c.guard.End()
	s.telling.op.End(context.Background(), -1, instruments.ErrAbandoned, "")
	c.attempt.waited, s.reading = 0, false
	c.observer.Abandoned(s)
}

// forgetOutcome forgets what became of the last statement, for what comes next and is none: its errors are its own.
func (c *Conn) forgetOutcome() {
	c.guard.Forget()
	cause := c.stmt.outcome.cause
	c.stmt.commits, c.stmt.outcome = false, outcome{cause: cause}
}

// bound begins the time of something that pgx doesn't trace, as if it were a statement. c.guard.End must follow.
func (c *Conn) bound() {
	c.stmt.outcome.cutAfter, c.stmt.outcome.cutReading = 0, false
	c.guard.Begin(clock.Now(), c.dialer.cfg.CommandTimeout, guard.Cancelling)
}
