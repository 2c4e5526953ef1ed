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

// A Conn is pgx's tracer: each statement is bounded, looked at for what it leaves behind, and reported, whoever sends
// it. pgx doesn't trace pings and the closing of statements, and neither do we.
var (
	_ pgx.QueryTracer    = (*Conn)(nil)
	_ pgx.PrepareTracer  = (*Conn)(nil)
	_ pgx.BatchTracer    = (*Conn)(nil)
	_ pgx.CopyFromTracer = (*Conn)(nil)
)

// observe begins the span and the metrics of a batch or a COPY.
func (c *Conn) observe(ctx context.Context, begin func(*instruments.Target) (context.Context, instruments.Operation)) context.Context {
	if c.depth == 1 {
		caller := ctx
		ctx, c.stmt.telling.op = begin(c.target)
		c.showWait(caller, &c.stmt.telling.op)
	}
	return ctx
}

// showWait notes the wait for the connection in the span of the first statement.
func (c *Conn) showWait(caller context.Context, op *instruments.Operation) {
	if waited := c.attempt.waited; waited > 0 {
		op.AddWait(caller, time.Now().Add(-time.Duration(clock.Now()-c.attempt.lent)-waited), waited)
	}
}

// rowsOf is how many rows the server has sent, negative if it doesn't say so.
func (c *Conn) rowsOf(tag pgconn.CommandTag) int64 {
	switch {
	case tag.Select(), strings.HasPrefix(tag.String(), "FETCH"):
		return tag.RowsAffected()
	case tag.Insert(), tag.Update(), tag.Delete(), strings.HasPrefix(tag.String(), "MERGE"):
		if c.stmt.telling.op.Returning() {
			return tag.RowsAffected()
		}
	}
	return -1
}

// TraceQueryStart implements pgx.QueryTracer.
func (c *Conn) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	sql := c.bare(d.SQL)
	c.begin("", sql)
	if len(c.prepared.unadopted) > 0 && takesCache(d.Args) {
		c.adopted(d.SQL)
	}
	if c.depth != 1 {
		return ctx
	}
	c.stmt.args = d.Args
	op := &c.stmt.telling.op
	if c.attempt.carried.UnderWay() { // the statement is tried again
		*op, c.attempt.carried = c.attempt.carried, instruments.Operation{}
		return op.Again(ctx, c.target, sql)
	}
	caller := ctx // as in observe, without a closure, which would cost each statement an allocation
	ctx, *op = c.target.Begin(ctx, sql)
	c.showWait(caller, op)
	return ctx
}

// takesCache reports whether a statement with these arguments goes through pgx's cache. Without any, Exec takes the
// simple protocol past it; before the first there may be how its caller wants it to be sent.
func takesCache(args []any) bool {
	for _, arg := range args[:min(len(args), 3)] {
		if mode, ok := arg.(pgx.QueryExecMode); ok {
			return mode == pgx.QueryExecModeCacheStatement
		}
	}
	return len(args) > 0
}

// bare is a statement without the tags that were appended to it. With the trace context among them no two texts would be
// the same, and nothing that is kept by text would be found again.
func (c *Conn) bare(sql string) string {
	if !c.dialer.hooks.Tagged {
		return sql
	}
	return sqlcomment.Bare(sql)
}

// lookAtArgs says how a query that has failed was sent: its first arguments may be the caller's own way.
func (c *Conn) lookAtArgs(args []any) {
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
	c.stmt.plan.cached = keeps(mode)
}

// TraceQueryEnd is called when the rows are closed.
func (c *Conn) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryEndData) {
	s := &c.stmt
	if c.depth == 1 {
		if d.Err != nil {
			c.lookAtArgs(s.args)
		}
		c.settle(d.CommandTag.String(), s.SQL, s.args)
	}
	if c.depth <= 1 { // and not of a query that was refused while the rows of another are open
		s.args = nil // they may be large
	}
	c.end(ctx, d.CommandTag, c.confirmed(d.Err))
}

// confirmed is a statement's error, or the server's warning that what it committed is confirmed by no synchronous standby:
// for its caller, and so for telemetry and the log, that is the failure.
func (c *Conn) confirmed(err error) error {
	if unconfirmed := c.stmt.outcome.unconfirmed; c.depth == 1 && unconfirmed != nil {
		return unconfirmed
	}
	return err
}

// TracePrepareStart implements pgx.PrepareTracer. It is called before pgx looks whether the statement is there already.
func (c *Conn) TracePrepareStart(ctx context.Context, _ *pgx.Conn, d pgx.TracePrepareStartData) context.Context {
	sql := c.bare(d.SQL)
	c.begin("PREPARE", sql)
	c.stmt.telling.prepare = preparing{sql: sql, began: time.Now()}
	if d.Name != "" && !strings.HasPrefix(d.Name, cachePrefix) {
		c.prepared.named = true
	}
	return ctx
}

// TracePrepareEnd implements pgx.PrepareTracer.
func (c *Conn) TracePrepareEnd(ctx context.Context, _ *pgx.Conn, d pgx.TracePrepareEndData) {
	c.prepared.already = d.AlreadyPrepared
	c.stmt.plan.anew = c.stmt.plan.anew || !d.AlreadyPrepared
	c.prepared.any = true
	if p := &c.stmt.telling.prepare; !d.AlreadyPrepared && d.Err != nil && c.attempt.holding {
		p.ctx, p.err = ctx, d.Err
	} else if !d.AlreadyPrepared {
		c.tellPrepare(ctx, d.Err)
	}
	c.end(ctx, pgconn.CommandTag{}, d.Err)
	if d.Err != nil && c.depth == 1 && c.stmt.copies && !c.pg.IsBusy() {
		// It was pgx's question for the columns of a COPY, which fails with it and doesn't tell: no TraceCopyFromEnd.
		c.end(ctx, pgconn.CommandTag{}, d.Err)
	}
}

// TraceBatchStart implements pgx.BatchTracer.
func (c *Conn) TraceBatchStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchStartData) context.Context {
	c.begin("BATCH", "")
	ctx = c.observe(ctx, func(t *instruments.Target) (context.Context, instruments.Operation) {
		texts := make([]string, len(d.Batch.QueuedQueries))
		for i, q := range d.Batch.QueuedQueries {
			texts[i] = q.SQL
		}
		return t.BeginBatch(ctx, texts)
	})
	c.batchAhead(ctx)
	return ctx
}

// TraceBatchQuery implements pgx.BatchTracer.
func (c *Conn) TraceBatchQuery(_ context.Context, _ *pgx.Conn, d pgx.TraceBatchQueryData) {
	if d.Err != nil {
		return
	}
	c.settle(d.CommandTag.String(), d.SQL, d.Args)
	if leavesTraces(d.CommandTag.String(), d.SQL) {
		c.dirty = true
	}
}

// TraceBatchEnd implements pgx.BatchTracer.
func (c *Conn) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchEndData) {
	c.end(ctx, pgconn.CommandTag{}, c.confirmed(d.Err))
}

// TraceCopyFromStart implements pgx.CopyFromTracer.
func (c *Conn) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceCopyFromStartData) context.Context {
	table := d.TableName.Sanitize()
	c.begin("COPY "+table, "")
	c.stmt.copies = c.depth == 1
	return c.observe(ctx, func(t *instruments.Target) (context.Context, instruments.Operation) {
		return t.BeginCopy(ctx, table)
	})
}

// TraceCopyFromEnd implements pgx.CopyFromTracer.
func (c *Conn) TraceCopyFromEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceCopyFromEndData) {
	c.end(ctx, d.CommandTag, c.confirmed(d.Err))
}
