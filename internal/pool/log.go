package pool

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/quiet"
)

func (p *Pool) log() *slog.Logger {
	if p.hooks.Logger != nil {
		return p.hooks.Logger
	}
	return slog.Default()
}

// write writes one line. ctx may hold the span that it belongs to; repeated is how often the same happened since it was
// last told, 0 for once.
func (p *Pool) write(ctx context.Context, level slog.Level, message string, repeated int, attrs ...slog.Attr) {
	logger := p.log()
	if !logger.Enabled(ctx, level) {
		return
	}
	all := append(make([]slog.Attr, 0, len(attrs)+4), slog.String("pool", p.cfg.PoolName))
	all = append(all, attrs...)
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		all = append(all, slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	if repeated > 0 {
		all = append(all, slog.Int("repeated", repeated))
	}
	logger.LogAttrs(ctx, level, message, all...)
}

// line is a line for package quiet to write when it is time.
func (p *Pool) line(ctx context.Context, level slog.Level, message string, attrs ...slog.Attr) func(quiet.Repeats) {
	return func(r quiet.Repeats) {
		if r.Count > 0 {
			attrs = append(attrs, slog.Time("last", r.Last)) // it may be over by now
		}
		p.write(ctx, level, message, r.Count, attrs...)
	}
}

// leftOut is called when so many different things happened that not each of them got a line.
func (p *Pool) leftOut(n int) {
	p.write(context.Background(), slog.LevelWarn, "pgprod: too much happens at once to log all of it, some lines were left out", 0,
		slog.Int("left_out", n))
}

// echo writes a pool event if somebody wants to read them all.
func (p *Pool) echo(ctx context.Context, message string, attrs ...slog.Attr) {
	if p.cfg.EchoPool {
		p.write(ctx, slog.LevelInfo, message, 0, attrs...)
	}
}

func pid(c *conn) slog.Attr { return slog.Uint64("pid", uint64(c.pg.PID())) }

func duration(key string, d time.Duration) slog.Attr {
	return slog.Duration(key, d.Round(time.Microsecond))
}

// connected is called for each connection that was made.
func (p *Pool) connected(ctx context.Context, c *conn, took time.Duration, overflow bool) {
	what := "connect"
	if overflow {
		what = "overflow"
	}
	p.events.Add(what, "", "backend "+pidText(c)+" after "+took.Round(time.Microsecond).String())
	if overflow {
		p.echo(ctx, "pgprod: overflow: connected beyond pool_size", duration("took", took), pid(c))
	} else {
		p.echo(ctx, "pgprod: connect", duration("took", took), pid(c))
	}
}

// closings are what the reasons for closing a connection mean.
var closings = map[string]string{
	"lifetime": "recycle: older than pool_recycle",
	"idle":     "close: idle for pool_idle_timeout",
	"overflow": "close: beyond pool_size",
	"invalid":  "invalidate: dead, or as old as one that was lost",
	"dirty":    "close: its session was changed, or left in the middle of something",
	"closed":   "close: the pool is closed",
}

// closedConn is called for each connection that is dropped.
func (p *Pool) closedConn(c *conn, reason string) {
	p.events.Add("close", reason, "backend "+pidText(c)+": "+reason)
	p.echo(context.Background(), "pgprod: "+closings[reason], slog.String("reason", reason), pid(c))
}

func (p *Pool) checkedOut(ctx context.Context, c *conn, waited time.Duration) {
	p.echo(ctx, "pgprod: checkout", duration("waited", waited), pid(c))
}

func (p *Pool) checkedIn(c *conn, held int64) {
	p.echo(context.Background(), "pgprod: checkin", duration("held", time.Duration(held)), pid(c))
}

// unserved is called when a caller got no connection.
func (p *Pool) unserved(ctx context.Context, err error, waited time.Duration) {
	if p.closed.Load() || errors.Is(err, context.Canceled) {
		return // the caller's own doing
	}
	kind, text := instruments.ErrorType(err), safeText(err)
	p.errors.Add("no connection", sortOf(err), text)
	p.news.Tell("no connection "+kind, p.line(ctx, slog.LevelError, "pgprod: a caller got no connection",
		slog.String("error_type", kind), slog.String("error_message", text), duration("waited", waited)))
}

// sortOf is what an error has in common with others of its sort, however often the numbers in their texts change.
func sortOf(err error) string {
	var dial *dialError
	if errors.As(err, &dial) {
		return instruments.ErrorType(err) + " " + dial.advice()
	}
	return instruments.ErrorType(err)
}

// An outage is from the first dial that fails to the next that succeeds. Each gives two lines of log, not one for every
// attempt, and if they follow each other closely only those that last.
type outage struct {
	mu       sync.Mutex // guards what follows
	since    time.Time  // zero: there is none
	failures int
	told     bool      // its beginning was logged, so its end will be
	recent   int       // how many were told since
	calm     time.Time // at which the count of recent ones begins anew
	untold   int       // that were too short to be told, since the last that was
}

const (
	// outagesAtOnce is how many outages a minute are told however short they are.
	outagesAtOnce = 3
	// longOutage is how long one lasts that is told in any case.
	longOutage = 5 * time.Second
)

// begin notes a failure and reports whether to tell of it.
func (o *outage) begin(now time.Time) (tell bool, untold int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failures++
	if o.since.IsZero() {
		o.since = now
	}
	if now.After(o.calm) {
		o.recent = 0
	}
	if o.told || o.recent >= outagesAtOnce && now.Sub(o.since) < longOutage {
		return false, 0
	}
	untold, o.untold = o.untold, 0
	o.told, o.recent, o.calm = true, o.recent+1, now.Add(time.Minute)
	return true, untold
}

// end reports whether there was an outage that was told, how long it was and how many dials had failed.
func (o *outage) end(now time.Time) (told bool, after time.Duration, failures int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		return false, 0, 0
	}
	told, after, failures = o.told, now.Sub(o.since), o.failures
	if !told {
		o.untold++
	}
	o.since, o.failures, o.told = time.Time{}, 0, false
	return told, after, failures
}

func (p *Pool) dialFailed(ctx context.Context, err *dialError) {
	if p.closed.Load() || ctx.Err() == context.Canceled {
		return // Close ended the dial
	}
	text := safeText(err)
	p.errors.Add("connect", sortOf(err), text)
	tell, untold := p.outage.begin(time.Now())
	if !tell {
		return
	}
	what := "pgprod: can't connect, callers wait and dialling goes on"
	if err.final {
		what = "pgprod: the server refuses to be connected to, repeating is of no use"
	}
	p.write(ctx, slog.LevelError, what, untold, slog.String("error", text))
}

func (p *Pool) dialSucceeded(ctx context.Context) {
	if told, after, failures := p.outage.end(time.Now()); told {
		p.news.Flush() // what is told later would look like news
		p.write(ctx, slog.LevelInfo, "pgprod: connected again", 0,
			slog.Duration("after", after.Round(time.Millisecond)), slog.Int("failed_attempts", failures))
	}
}

// lost is called once for each generation.
func (p *Pool) lost(cause error) {
	why := cause.Error()
	if cause != errFoundDead && cause != errLost {
		why = instruments.Describe(cause, "") // a function may raise what says that the server is read-only
	}
	p.events.Add("invalidate", instruments.ErrorType(cause), "a connection was lost: "+why)
	p.news.Tell("lost", p.line(context.Background(), slog.LevelWarn, "pgprod: the server closed a connection, idle ones are replaced",
		slog.String("error", why)))
}
