package pool

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

// A conn is pgx's tracer: each statement is bounded, looked at for what it leaves behind, and reported, whoever sends
// it. pgx doesn't trace pings and the closing of statements, and neither do we.
var (
	_ pgx.QueryTracer    = (*conn)(nil)
	_ pgx.PrepareTracer  = (*conn)(nil)
	_ pgx.BatchTracer    = (*conn)(nil)
	_ pgx.CopyFromTracer = (*conn)(nil)
)

// observe begins the span and the metrics of the outermost statement: one statement, one span.
func (c *conn) observe(ctx context.Context, begin func(*instruments.Target) (context.Context, instruments.Operation)) context.Context {
	if c.depth == 1 {
		caller := ctx
		ctx, c.op = begin(c.target)
		c.showWait(caller, &c.op)
	}
	return ctx
}

// takePending takes the operation of a statement that has failed and is to be tried again, if there is one.
func (c *conn) takePending() (op instruments.Operation) {
	if c.depth == 0 {
		op, c.op = c.op, op
	}
	return op
}

// showWait notes the wait for the connection in the span of the first statement.
func (c *conn) showWait(caller context.Context, op *instruments.Operation) {
	if c.waited <= 0 {
		return
	}
	c.mu.Lock()
	lent := c.held.since
	c.mu.Unlock()
	op.Waited(caller, time.Now().Add(-time.Duration(clock.Now()-lent)-c.waited), c.waited)
}

// observed ends them, unless the statement is tried again: its caller hears of one, with one outcome.
func (c *conn) observed(ctx context.Context, tag pgconn.CommandTag, err error) {
	if c.depth != 1 || c.repeats(err) {
		return
	}
	c.op.End(ctx, c.rowsOf(tag), err, c.callersText())
}

// rowsOf is how many rows the server has sent, negative if it doesn't say so.
func (c *conn) rowsOf(tag pgconn.CommandTag) int64 {
	switch {
	case tag.Select(), strings.HasPrefix(tag.String(), "FETCH"):
		return tag.RowsAffected()
	case tag.Insert(), tag.Update(), tag.Delete(), strings.HasPrefix(tag.String(), "MERGE"):
		if c.op.Returning() {
			return tag.RowsAffected()
		}
	}
	return -1
}

// TraceQueryStart implements pgx.QueryTracer.
func (c *conn) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	sql := c.bare(d.SQL)
	c.begin("", sql)
	if len(c.unadopted) > 0 && takesCache(d.Args) {
		c.adopted(d.SQL)
	}
	if c.depth != 1 {
		return ctx
	}
	c.args = d.Args
	if c.op.Pending() { // the statement is tried again
		return c.op.Again(ctx, c.target, sql)
	}
	caller := ctx // as in observe, without a closure, which would cost each statement an allocation
	ctx, c.op = c.target.Begin(ctx, sql)
	c.showWait(caller, &c.op)
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
func (c *conn) bare(sql string) string {
	if c.pool.hooks.Commenter == nil {
		return sql
	}
	return sqlcomment.Bare(sql)
}

// lookAtArgs says how a query that has failed was sent: its first arguments may be the caller's own way.
func (c *conn) lookAtArgs(args []any) {
	mode := c.pool.cfg.Conn.DefaultQueryExecMode
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
	c.cached = keeps(mode)
}

// callersText is the text of a statement as its caller wrote it: whatever way it goes, no argument is in it yet. Of a COPY
// it is that of pgx's question for the columns, the only one that can be wrong.
func (c *conn) callersText() string {
	if c.copies {
		return c.preparing
	}
	return c.sql
}

// TraceQueryEnd is called when the rows are closed.
func (c *conn) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryEndData) {
	if c.depth == 1 {
		if d.Err != nil {
			c.lookAtArgs(c.args)
		}
		c.settle(d.CommandTag.String(), c.sql, c.args)
	}
	if c.depth <= 1 { // and not of a query that was refused while the rows of another are open
		c.args = nil // they may be large
	}
	err := c.confirmed(d.Err)
	c.observed(ctx, d.CommandTag, err)
	c.end(ctx, d.CommandTag, err)
}

// confirmed is a statement's error, or the server's warning that what it committed is confirmed by no synchronous standby:
// for its caller, and so for telemetry and the log, that is the failure.
func (c *conn) confirmed(err error) error {
	if c.depth == 1 && c.unconfirmed != nil {
		return c.unconfirmed
	}
	return err
}

// TracePrepareStart implements pgx.PrepareTracer. It is called before pgx looks whether the statement is there already.
func (c *conn) TracePrepareStart(ctx context.Context, _ *pgx.Conn, d pgx.TracePrepareStartData) context.Context {
	sql := c.bare(d.SQL)
	c.begin("PREPARE", sql)
	c.preparing, c.asked = sql, time.Now()
	if d.Name != "" && !strings.HasPrefix(d.Name, cachePrefix) {
		c.plans.named = true
	}
	return ctx
}

// TracePrepareEnd implements pgx.PrepareTracer.
func (c *conn) TracePrepareEnd(ctx context.Context, _ *pgx.Conn, d pgx.TracePrepareEndData) {
	c.alreadyPrepared = d.AlreadyPrepared
	c.anew = c.anew || !d.AlreadyPrepared
	c.plans.prepared = true
	if !d.AlreadyPrepared && !c.repeats(d.Err) {
		spanned, op := c.target.Prepared(ctx, c.preparing, c.asked)
		c.showWait(ctx, &op)
		op.End(spanned, -1, d.Err, c.preparing)
	}
	c.end(ctx, pgconn.CommandTag{}, d.Err)
	if d.Err != nil && c.depth == 1 && c.copies && !c.pg.IsBusy() {
		// It was pgx's question for the columns of a COPY, which fails with it and doesn't tell: no TraceCopyFromEnd.
		c.observed(ctx, pgconn.CommandTag{}, d.Err)
		c.end(ctx, pgconn.CommandTag{}, d.Err)
	}
}

// TraceBatchStart implements pgx.BatchTracer.
func (c *conn) TraceBatchStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchStartData) context.Context {
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
func (c *conn) TraceBatchQuery(_ context.Context, _ *pgx.Conn, d pgx.TraceBatchQueryData) {
	if d.Err != nil {
		return
	}
	c.settle(d.CommandTag.String(), d.SQL, d.Args)
	if leavesTraces(d.CommandTag.String(), d.SQL) {
		c.condemned = "dirty"
	}
}

// TraceBatchEnd implements pgx.BatchTracer.
func (c *conn) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchEndData) {
	err := c.confirmed(d.Err)
	c.observed(ctx, pgconn.CommandTag{}, err)
	c.end(ctx, pgconn.CommandTag{}, err)
}

// TraceCopyFromStart implements pgx.CopyFromTracer.
func (c *conn) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceCopyFromStartData) context.Context {
	table := d.TableName.Sanitize()
	c.begin("COPY "+table, "")
	c.copies = c.depth == 1
	return c.observe(ctx, func(t *instruments.Target) (context.Context, instruments.Operation) {
		return t.BeginCopy(ctx, table)
	})
}

// TraceCopyFromEnd implements pgx.CopyFromTracer.
func (c *conn) TraceCopyFromEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceCopyFromEndData) {
	err := c.confirmed(d.Err)
	c.observed(ctx, d.CommandTag, err)
	c.end(ctx, d.CommandTag, err)
}
