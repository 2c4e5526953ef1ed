package link

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/sqlcomment"
)

// A Conn is the tracer of its pgx.Conn. pgx calls these methods at the begin and at the end of whatever it does at a
// caller's request, in the goroutine of the call, also for callers of Raw. So each statement has a limit of time, is looked
// at for what it leaves behind in the session, and is reported. pgx doesn't trace pings and the closing of statements: see
// beginUntraced.
var (
	_ pgx.QueryTracer    = (*Conn)(nil)
	_ pgx.PrepareTracer  = (*Conn)(nil)
	_ pgx.BatchTracer    = (*Conn)(nil)
	_ pgx.CopyFromTracer = (*Conn)(nil)
)

// observe begins the span and the metrics of a batch or a COPY by calling begin, and returns the context with the span.
// Within another statement it does nothing.
func (c *Conn) observe(ctx context.Context, begin func(*instruments.Target) (context.Context, instruments.Operation)) context.Context {
	if c.depth == 1 {
		caller := ctx
		ctx, c.stmt.telemetry.op = begin(c.target)
		c.showWait(caller, &c.stmt.telemetry.op)
		c.showTrace(&c.stmt.telemetry.op)
	}
	return ctx
}

// showWait adds the wait for the connection to the span of the borrower's first statement. caller is the context of the
// statement without its span.
func (c *Conn) showWait(caller context.Context, op *instruments.Operation) {
	if waited := c.attempt.waited; waited > 0 {
		op.AddWait(caller, time.Now().Add(-time.Duration(clock.Now()-c.attempt.borrowedAt)-waited), waited)
	}
}

// showTrace notes the trace of the statement under way for those who look at the connection from outside.
func (c *Conn) showTrace(op *instruments.Operation) {
	if id := op.SampledTrace(); id.IsValid() {
		c.doing.traced(id)
	}
}

// rowsOf returns how many rows the server has sent for a statement, by its command tag, or -1 if that can't be known. The
// tag of an INSERT, UPDATE, DELETE or MERGE counts rows that were changed; they were sent as well if there is a RETURNING.
func (c *Conn) rowsOf(tag pgconn.CommandTag) int64 {
	switch {
	case tag.Select(), strings.HasPrefix(tag.String(), "FETCH"):
		return tag.RowsAffected()
	case tag.Insert(), tag.Update(), tag.Delete(), strings.HasPrefix(tag.String(), "MERGE"):
		if c.stmt.telemetry.op.Returning() {
			return tag.RowsAffected()
		}
	}
	return -1
}

// TraceQueryStart implements pgx.QueryTracer. pgx calls it before it sends anything of the query, also before it prepares
// it. The query becomes the Statement under way, and its span begins, or goes on if this is another attempt.
func (c *Conn) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	if c.setup.running {
		c.beginSetupQuery(d.SQL, d.Args)
		return ctx
	}
	ctx = c.refuseInRaw(ctx)
	sql := c.bare(d.SQL)
	c.begin(ctx, "", sql, !arePlain(d.Args))
	c.raiseInRaw(ctx)
	if c.depth != 1 {
		return ctx
	}
	if c.isCounting() && !bounds(sql) {
		c.noteCounted(ctx, c.stmt.Summary())
	}
	c.stmt.args = d.Args
	op := &c.stmt.telemetry.op
	if c.attempt.carried.UnderWay() { // the statement is tried again
		*op, c.attempt.carried = c.attempt.carried, instruments.Operation{}
		ctx = op.Again(ctx, c.target)
	} else {
		caller := ctx // as in observe, but without its closure, which would cost each statement an allocation
		ctx, *op = c.target.Begin(ctx, sql)
		c.showWait(caller, op)
	}
	c.showTrace(op)
	c.boardTrace(op, sql)
	if c.ride.begin != nil {
		op.BeginsTransaction(c.tx.start.Attempt, c.tx.start.Why)
	}
	return ctx
}

// takesCache reports whether pgx surely sends a statement with these arguments through its cache of prepared statements. A
// pgx.QueryExecMode among the first arguments says how the caller wants it to be sent. Without any arguments it may go
// either way: Exec sends it by the simple protocol, past the cache.
func takesCache(args []any) bool {
	for _, arg := range args[:min(len(args), 3)] {
		if mode, ok := arg.(pgx.QueryExecMode); ok {
			return mode == pgx.QueryExecModeCacheStatement
		}
	}
	return len(args) > 0
}

// bare returns a statement's text without the tags of package sqlcomment. The tags may contain the trace context, so that
// with them no two texts would be equal, and nothing that is kept by text would be found again.
func (c *Conn) bare(sql string) string {
	if !c.dialer.hooks.Tagged {
		return sql
	}
	return sqlcomment.Bare(sql)
}

// noteHowSent is called when a query has failed. It notes whether pgx has kept a prepared statement or a description for it,
// which depends on how it was sent: as the settings say, or as a pgx.QueryExecMode before the statement's own arguments
// says.
func (c *Conn) noteHowSent(args []any) {
	mode := c.dialer.cfg.Conn.DefaultQueryExecMode
	for _, arg := range args {
		switch arg := arg.(type) {
		case pgx.QueryExecMode:
			mode = arg
			continue
		case pgx.QueryRewriter, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID:
			continue
		}
		break // the first of the statement's
	}
	c.stmt.plan.cached = caches(mode)
}

// TraceQueryEnd implements pgx.QueryTracer. pgx calls it when the rows are closed, or when the query has failed.
func (c *Conn) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryEndData) {
	if c.setup.running {
		c.noteSetup(tagUnless(d.Err, d.CommandTag), c.setup.sql, c.setup.args)
		return
	}
	d.Err = c.withoutValues(d.Err)
	s := &c.stmt
	if d.Err != nil && c.isProven(d.CommandTag) {
		s.outcome.proven, d.Err = true, nil
	}
	if c.depth == 1 {
		if d.Err != nil {
			c.noteHowSent(s.args)
		}
		c.noteQuery(d.CommandTag.String(), s.SQL, s.args)
		if d.Err == nil {
			c.noteUse()
		}
	}
	if c.depth <= 1 { // otherwise a query was refused while another one, whose arguments these are, still has its rows open
		s.args = nil // they may be large
	}
	c.end(ctx, d.CommandTag, c.confirmed(d.Err))
}

// confirmed returns a statement's error, or, if the server has warned that no synchronous standby has confirmed what it has
// committed, that warning: the caller gets it as an error, and so it is the failure for telemetry and the log as well.
func (c *Conn) confirmed(err error) error {
	if unconfirmed := c.stmt.outcome.unconfirmed; c.depth == 1 && unconfirmed != nil {
		return unconfirmed
	}
	return err
}

// TracePrepareStart implements pgx.PrepareTracer. pgx calls it for a prepare that a caller asked for and for one within a
// query, before it looks whether the statement is prepared already.
func (c *Conn) TracePrepareStart(ctx context.Context, _ *pgx.Conn, d pgx.TracePrepareStartData) context.Context {
	if c.prepared.warming {
		return ctx
	}
	if c.setup.running {
		c.beginSetup()
		c.noteNamed(d.Name)
		return ctx
	}
	c.prepared.name = d.Name
	ctx = c.refuseInRaw(ctx)
	sql := c.bare(d.SQL)
	c.begin(ctx, "PREPARE", sql, false)
	c.stmt.telemetry.prepare = preparing{sql: sql, began: time.Now()}
	c.noteNamed(d.Name)
	return ctx
}

// noteNamed notes a prepare under a name that isn't one of the cache's.
func (c *Conn) noteNamed(name string) {
	if name != "" && !strings.HasPrefix(name, cachePrefix) {
		c.prepared.named = true
	}
}

// TracePrepareEnd implements pgx.PrepareTracer. Only a prepare that went to the server has a span. If it has failed within
// Try, the span waits with the failure until it is known whether the statement is tried again.
func (c *Conn) TracePrepareEnd(ctx context.Context, _ *pgx.Conn, d pgx.TracePrepareEndData) {
	if c.prepared.warming {
		return
	}
	if c.setup.running {
		c.prepared.nonEmpty = true
		return
	}
	if c.depth > 1 && d.Err == nil {
		c.adopted(c.prepared.name)
	}
	d.Err = c.withoutValues(d.Err)
	c.prepared.already = d.AlreadyPrepared
	c.stmt.plan.anew = c.stmt.plan.anew || !d.AlreadyPrepared
	c.prepared.nonEmpty = true
	if p := &c.stmt.telemetry.prepare; !d.AlreadyPrepared && d.Err != nil && c.attempt.undecided {
		p.ctx, p.err = ctx, d.Err
	} else if !d.AlreadyPrepared {
		c.reportPrepare(ctx, d.Err)
	}
	c.end(ctx, pgconn.CommandTag{}, d.Err)
	if d.Err != nil && c.depth == 1 && c.stmt.copies && !c.pg.IsBusy() {
		// It was pgx's question for the columns of a COPY, which fails with it and doesn't tell: no TraceCopyFromEnd.
		c.end(ctx, pgconn.CommandTag{}, d.Err)
	}
}

// TraceBatchStart implements pgx.BatchTracer. The batch as a whole is one Statement, which has the texts in its span only.
func (c *Conn) TraceBatchStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchStartData) context.Context {
	if c.setup.running {
		c.beginSetup()
		c.prepared.batched, c.prepared.nonEmpty = true, true
		return ctx
	}
	ctx = c.refuseInRaw(ctx)
	c.begin(ctx, "BATCH", "", true)
	c.raiseInRaw(ctx)
	if c.depth == 1 && c.isCounting() {
		c.noteCounted(ctx, c.target.BatchSummary(textsOf(d.Batch)))
	}
	ctx = c.observe(ctx, func(t *instruments.Target) (context.Context, instruments.Operation) {
		return t.BeginBatch(ctx, textsOf(d.Batch))
	})
	c.batchAhead(ctx)
	return ctx
}

// textsOf returns the texts of a batch.
func textsOf(b *pgx.Batch) []string {
	texts := make([]string, len(b.QueuedQueries))
	for i, q := range b.QueuedQueries {
		texts[i] = q.SQL
	}
	return texts
}

// TraceBatchQuery implements pgx.BatchTracer. pgx calls it for each statement of a batch, when its result was read.
func (c *Conn) TraceBatchQuery(_ context.Context, _ *pgx.Conn, d pgx.TraceBatchQueryData) {
	if c.setup.running {
		c.noteSetup(tagUnless(d.Err, d.CommandTag), d.SQL, d.Args)
		return
	}
	if d.Err != nil {
		return
	}
	c.noteQuery(d.CommandTag.String(), d.SQL, d.Args)
}

// TraceBatchEnd implements pgx.BatchTracer. pgx calls it when the batch's results are closed, and twice if it fails early.
func (c *Conn) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchEndData) {
	if c.setup.running {
		return
	}
	c.end(ctx, pgconn.CommandTag{}, c.confirmed(d.Err))
}

// TraceCopyFromStart implements pgx.CopyFromTracer. After it pgx asks the server for the table's columns, by a prepare
// within.
func (c *Conn) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceCopyFromStartData) context.Context {
	if c.setup.running {
		c.beginSetup()
		return ctx
	}
	ctx = c.refuseInRaw(ctx)
	table := d.TableName.Sanitize()
	c.begin(ctx, "COPY "+table, "", false)
	c.raiseInRaw(ctx)
	c.stmt.copies = c.depth == 1
	if c.depth == 1 && c.isCounting() {
		c.noteCounted(ctx, c.target.CopySummary(table))
	}
	return c.observe(ctx, func(t *instruments.Target) (context.Context, instruments.Operation) {
		return t.BeginCopy(ctx, table)
	})
}

// TraceCopyFromEnd implements pgx.CopyFromTracer.
func (c *Conn) TraceCopyFromEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceCopyFromEndData) {
	if c.setup.running {
		return
	}
	c.end(ctx, d.CommandTag, c.confirmed(d.Err))
}
