package link

import (
	"context"
	"runtime/trace"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/pgerror"
)

// A Statement is the outermost thing that pgx does at a caller's request: a query, a prepare, a batch or a COPY. What pgx
// prepares for a query belongs to the query. A Statement is made as one value by Conn.begin, and completed by Conn.end. It
// stays in Conn.stmt until the next one begins, so that the errors of what comes in between can be explained by it.
type Statement struct {
	Kind string // PREPARE, BATCH or COPY "table"; "" for a query, whose text says what it is
	SQL  string // the text without the tags of package sqlcomment; "" for a batch and a COPY

	Tag    pgconn.CommandTag // the server's command tag, which is empty for a prepare and a batch
	Err    error             // pgx's error, or the server's warning that a commit is not replicated; nil for success
	Took   time.Duration     // from begin to end
	Cause  *activity.Cause   // what it was last found to wait for, if it was slow; nil: that isn't known
	Waited time.Duration     // how long the borrower had waited for the connection, if this is its first statement; else 0
	Server time.Duration     // the part of Took in which the server was awaited, see wire.Tap.Timing
	Read   time.Duration     // the part of Took after that: how long its result was read, the caller's pauses included

	conn *Conn
	args []any // the arguments of a query as pgx got them; nil after its end

	began     int64 // by package clock: when it began
	mark      int64 // wire.Tap's mark when it began: the same mark later on means that not a byte was written since
	wasClosed bool  // the connection was closed already when it began
	limit     limit // how long it may take
	commits   bool  // it is a COMMIT in one of its forms
	copies    bool  // it is a COPY, sent by pgx's CopyFrom
	reading   bool  // its rows were handed to the caller, and it has not ended

	plan      plan
	outcome   outcome
	telemetry telemetry
	profiled  *profiled // nil: no execution trace was being collected when it began
}

// plan is how a query was prepared: whether a prepared statement that was there before may be the reason of its failure.
type plan struct {
	cached bool // set when the query has failed: pgx keeps what it has prepared or described for queries sent in this way
	anew   bool // pgx had the server prepare something for this query, because it was not in its cache
}

// outcome is what became of a statement, as far as its error has to say it. What follows the statement on the connection
// without being one, such as a ping, forgets the outcome (forgetOutcome): its errors must not be explained by it.
type outcome struct {
	tag         string          // the command tag; "": none has come
	proven      bool            // the connection was lost, but not before the tag had come that proves that the statement is committed
	cause       error           // the last error that pgx has reported, which stdlib may replace by driver.ErrBadConn
	unconfirmed *pgconn.PgError // the server's warning that a commit is not replicated; nil: none
	cutAfter    time.Duration   // how long the statement had run when it was cut short; 0: it was not, or that is not known
	cutReading  bool            // the statement was cut short while its rows were open
}

// telemetry is the span and the metrics of a statement, and what is still to be reported of it.
type telemetry struct {
	op         instruments.Operation // the span and the duration
	ctx        context.Context       // the one with the span, from the end of the statement until it was reported
	unreported bool                  // the statement has failed within Try, and that was not reported yet
	prepare    preparing             // the last prepare
}

// preparing is the last prepare that pgx has done: for the statement, or because the statement is a prepare itself.
type preparing struct {
	sql   string
	began time.Time
	ctx   context.Context // its context, if it has failed and that was not reported yet; otherwise nil
	err   error           // its error, if ctx isn't nil
}

// Summary returns a few words for the statement, without any of its literals.
func (s *Statement) Summary() string { return SummaryOf(s.conn.target, s.Kind, s.SQL) }

// SummaryOf returns a few words for a statement, given its kind and its text, without any of its literals.
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

// Text returns the statement's text without its literals.
func (s *Statement) Text() string { return TextOf(s.conn.target, s.Kind, s.SQL) }

// TextOf returns a statement's text without its literals, given its kind and its text.
func TextOf(t *instruments.Target, kind, sql string) string {
	if sql == "" {
		return kind
	}
	return strings.TrimSpace(kind + " " + t.Summary(sql).Text)
}

// Where returns the place of the statement's server, and its major version, 0 if that isn't known.
func (s *Statement) Where() (at Place, major int) {
	return s.conn.Place(), s.conn.ServerMajor()
}

// Rows returns how many rows the statement has returned or changed, by its command tag.
func (s *Statement) Rows() int64 { return s.Tag.RowsAffected() }

// CallersText returns the statement's text as its caller wrote it, without the arguments, in whatever way it is sent. For a
// COPY it is the text of pgx's question for the columns, the only text there is in which the server can find a mistake. It
// may contain literals, so it must not be shown: it serves to hide them in the server's messages.
func (s *Statement) CallersText() string {
	if s.copies {
		return s.telemetry.prepare.sql
	}
	return s.SQL
}

// Real returns Err, or, where pgx says only that the connection is closed, the error that has ended the connection.
func (s *Statement) Real() error { return s.conn.Real(s.Err) }

// WhyCut says in words what cut the statement short. It returns "" if nothing did.
func (s *Statement) WhyCut() string {
	if cut := s.conn.cutShort(s.Real(), s.conn.fate()); cut != nil {
		return cut.why
	}
	return ""
}

// CutByCaller returns the error of the caller's context if the end of that context has cut the statement short, nil
// otherwise.
func (s *Statement) CutByCaller() error { return s.conn.guard.Cut().Caller }

// An attempt is what is known before a statement begins: about the call of Try that it is part of, and about the wait for
// the connection, which is shown with the borrower's first statement.
type attempt struct {
	undecided  bool  // Try is running: a failure is not reported, since its caller decides whether the statement is tried again
	protected  bool  // protect is running, so that what its caller does comes back to it in the same goroutine
	mark       int64 // wire.Tap's mark when Try began
	executions int64 // wire.Tap's count of executions then
	simple     bool  // it is an Exec by the simple protocol

	carried instruments.Operation // the operation of the attempts before, until the statement takes it over
	counted *counted              // what is known of the statement that was counted, in this attempt or before; nil: none was
	turned  turn                  // where the statement may be sent again, because it was turned away

	borrowedAt   int64         // by package clock: when the borrower got the connection
	borrowedMark int64         // wire.Tap's mark then
	waited       time.Duration // how long the borrower had waited for it; 0 once its first statement was reported
}

// begin is called by the tracer when pgx begins something at a caller's request, and end when that is over. A prepare within
// a query calls both once more: only the outermost pair, from depth 0 to 1 and back, is a Statement. begin makes the
// Statement, starts the guard's time for it, and notes it for those who look at the connection from outside.
//
// exact says that the application's code may run before anything is sent, so that the time of the sending matters.
func (c *Conn) begin(ctx context.Context, kind, sql string, exact bool) {
	if c.depth++; c.depth > 1 {
		return
	}
	c.closeIfThreatened()
	c.stmt = Statement{
		Kind: kind, SQL: sql, conn: c, began: clock.Now(), mark: c.tap.Mark(), wasClosed: c.pg.IsClosed(),
		limit: c.limitOf(ctx), commits: kind == "" && commits(sql), Waited: c.attempt.waited,
	}
	c.doing.note(kind, sql, c.stmt.began) // before the guard knows of it: see UnderWay
	c.tap.BeginTiming(c.stmt.began, exact)
	how := guard.Cancelling
	if c.stmt.commits { // see guard.Waiting for what a cancel request would do to it
		how = guard.Waiting
	}
	c.guard.Begin(c.stmt.began, c.stmt.limit.Duration, how)
	c.visit.began(kind, sql)
	if trace.IsEnabled() {
		c.profile(ctx)
	}
}

// closeIfThreatened closes the connection if the server has not acknowledged a cancel request for an earlier statement, which
// could hit the next one, however late it comes. So the next one isn't sent. It is called before each statement of the same
// borrower's; others don't get the connection, see Broken.
func (c *Conn) closeIfThreatened() {
	if !c.guard.Unacknowledged() || c.pg.IsClosed() || c.pg.IsBusy() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.pgx.Close(ctx)
}

// arePlain reports whether pgx encodes these arguments by itself, at once. A driver.Valuer of the application's, for
// example, may take its time.
func arePlain(args []any) bool {
	for _, arg := range args {
		switch arg.(type) {
		case nil, bool, string, []byte, time.Time, int, int16, int32, int64, float32, float64,
			pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID:
		default:
			return false
		}
	}
	return true
}

// showsPartsFrom returns how long a statement takes, with its wait for the connection, from which on its span has the parts
// of that time: a tenth of a second, or slow_query if that is shorter. Attributes that are added to a span cost allocations.
func (d *Dialer) showsPartsFrom() time.Duration {
	const notable = 100 * time.Millisecond
	if slow := d.cfg.SlowQuery; slow > 0 {
		return min(slow, notable)
	}
	return notable
}

// end completes the Statement with how it ended. ctx is the one that the tracer returned at its begin, with the span. A
// failure within Try is not reported yet, because it isn't known whether the statement is tried again; anything else is.
// After end the guard's time for the statement is over.
func (c *Conn) end(ctx context.Context, tag pgconn.CommandTag, err error) {
	if c.depth == 0 {
		return // pgx reports the end of a batch twice when it fails early
	}
	s := &c.stmt
	if err != nil {
		s.outcome.cause = err // also of a prepare within, and of a query that is refused while the rows of another are open
	}
	if c.depth--; c.depth > 0 {
		return
	}
	c.guard.End()
	s.profiled.end()
	now := clock.Now()
	s.Tag, s.Err, s.Took, s.telemetry.ctx = tag, err, time.Duration(now-s.began), ctx
	s.Server, s.Read = c.tap.Timing(s.mark, now)
	s.outcome.tag = tag.String()
	if slow := c.dialer.cfg.SlowQuery; slow > 0 && s.Took >= slow { // only of such a statement a cause may be known
		s.Cause = c.doing.causeOf(s.began)
	}
	c.attempt.counted.ended(now)
	c.noteOutcome(now)
	if err != nil && c.attempt.undecided {
		s.telemetry.unreported = true
	} else {
		c.report()
	}
	if err != nil {
		c.learn(err)
	}
}

// noteOutcome is called by end, at now. It notes what the end of a statement says of the connection, of its transaction and
// of the visit.
func (c *Conn) noteOutcome(now int64) {
	s := &c.stmt
	if c.guard.Cut().Happened() {
		s.outcome.cutAfter, s.outcome.cutReading = s.Took, s.reading
		c.raw.cut = c.fate()
	}
	if s.outcome.unconfirmed != nil {
		c.raw.unconfirmed = s.outcome.unconfirmed
		c.observer.CommitUnknown(NotReplicated, s.outcome.unconfirmed)
	}
	closed := c.pg.IsClosed()
	if c.tx.active && !closed {
		c.tx.noteConflict(c.pg.TxStatus(), s.Err)
	}
	if !closed && c.pg.TxStatus() == 'I' { // the server says that no transaction is open, whichever statement has ended it
		c.tx.open = false
		if l := &c.session.local; l.names != nil || l.traced || l.raised != "" {
			c.session.local = local{}
		}
	}
	if !closed && pgerror.ServerAnswered(s.Err) { // an error of the server's is an answer as well
		c.heard.Store(now)
	}
	if s.Err == nil {
		c.visit.ended(s.Kind, s.SQL, s.outcome.tag)
	}
}

// report ends the statement's span and metrics, those of a prepare within it first, and reports the statement to the
// observer. It is called once for each statement that is not tried again: by end, by Fail, or by abandon.
func (c *Conn) report() {
	s := &c.stmt
	t := &s.telemetry
	if t.prepare.ctx != nil {
		c.reportPrepare(t.prepare.ctx, t.prepare.err)
	}
	ctx := t.ctx
	t.unreported, t.ctx = false, nil
	t.op.WasSlow(s.Cause)
	if s.Took+s.Waited >= c.dialer.showsPartsFrom() {
		t.op.AddParts(s.Waited, s.Server, s.Read)
	}
	t.op.End(ctx, c.rowsOf(s.Tag), s.Err, s.CallersText())
	c.attempt.waited, s.reading = 0, false
	c.observer.Ended(ctx, s)
}

// reportPrepare records the span and the metrics of a prepare that has ended with err. ctx is the prepare's.
func (c *Conn) reportPrepare(ctx context.Context, err error) {
	p := &c.stmt.telemetry.prepare
	spanned, op := c.target.Prepared(ctx, p.sql, p.began)
	c.showWait(ctx, &op)
	op.End(spanned, -1, err, p.sql)
	p.ctx, p.err = nil, nil
}

// abandon is called after a panic and when a visit ends. It ends a statement that pgx has begun and not ended, and reports
// one that has ended and was not reported. There is such a statement if a panic in the application's code (a driver.Valuer,
// a codec, a tracer) came in between, if a function that got the connection by Raw left rows or a batch open, or if pgx
// doesn't report a failure. Without abandon the guard would go on and end other borrowers' statements, and the span would
// never end. The connection is dirty afterwards. If there is no such statement, nothing happens.
//
// abandon doesn't ask what cut the statement short: pgx may still be watching the caller's context, and so may be writing
// it.
func (c *Conn) abandon() {
	s := &c.stmt
	switch {
	case c.depth == 0 && s.telemetry.unreported: // a panic came before Fail or TakeBack was called
		c.dirty = true
		c.report()
		return
	case c.depth == 0 && !s.telemetry.op.UnderWay():
		return
	}
	c.depth = 0
	c.dirty = true
	c.guard.End()
	s.profiled.end()
	s.telemetry.op.End(context.Background(), -1, instruments.ErrAbandoned, "")
	c.attempt.waited, s.reading = 0, false
	c.observer.Abandoned(s)
}

// forgetOutcome forgets what became of the last statement, except for its cause. It is called before something that is not a
// statement, such as a ping, whose errors must not be explained by that statement.
func (c *Conn) forgetOutcome() {
	c.guard.Forget()
	cause := c.stmt.outcome.cause
	c.stmt.commits, c.stmt.outcome, c.stmt.Cause = false, outcome{cause: cause}, nil
}

// beginUntraced starts the guard's time for something that pgx doesn't trace, with the limit of a statement that has this
// context. Its caller calls c.guard.End afterwards.
func (c *Conn) beginUntraced(ctx context.Context) {
	c.stmt.limit, c.stmt.Cause = c.limitOf(ctx), nil
	c.stmt.outcome.cutAfter, c.stmt.outcome.cutReading = 0, false
	c.doing.noStatement()
	c.guard.Begin(clock.Now(), c.stmt.limit.Duration, guard.Cancelling)
}
