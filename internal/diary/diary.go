// Package diary reports what happens in one pool: it writes the log, and keeps the errors, the events and the durations of
// statements that the live page shows. It decides what is worth a line, and counts what repeats itself instead of flooding
// the log.
//
// Its methods take facts, in words that may be shown: no password, no value of a statement. It knows neither the pool nor
// its connections, so that it is tested without a server. The application's log handler may do anything, such as block or
// use the pool that it logs for. Therefore no lock is held while it is called, neither the diary's nor package quiet's, and
// the diary's methods must be called without a lock too.
//
//	diary.go        how a line is written, or counted when the same happens again
//	connections.go  connections are made, lent, held for too long, given back and closed
//	server.go       the server can't be reached, closes connections, is unhealthy, or isn't set up well
//	hosts.go        hosts go, come back and change their roles
//	statements.go   statements that failed, were slow, or are to be warned of
//	outage.go       when an outage begins and ends, and which outages are logged
package diary

import (
	"context"
	"log/slog"
	"math"
	"slices"
	"sync/atomic"
	"time"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/quiet"
)

// The keys of what spans and metrics have as well, called as there.
const (
	keySummary   = string(semconv.DBQuerySummaryKey)
	keyErrorType = string(semconv.ErrorTypeKey)
	keySQLState  = string(semconv.DBResponseStatusCodeKey)
)

// Options are what the application has chosen.
type Options struct {
	Pool     string        // the pool's name, which each line contains
	Logger   *slog.Logger  // nil: slog.Default() at the time of each line
	Echo     bool          // write a line for every statement, also for repetitions that are only counted otherwise
	EchoPool bool          // write a line whenever a connection is made, closed, lent or given back
	Slow     time.Duration // log statements that take at least as long, with their wait for a connection; 0: none
}

// A Diary reports what happens in one pool. It is safe for concurrent use.
type Diary struct {
	options Options
	slow    time.Duration // Options.Slow, or never

	ofCallers quiet.Limiter // limits the lines about what callers and their statements do
	ofPool    quiet.Limiter // limits the lines about the pool and its server, which callers' lines must not crowd out

	dials  outage   // begins when a dial fails, ends when one succeeds
	checks outage   // begins when a health check finds the database dead, ends when one finds it alive
	logins outage   // begins when the application's function for credentials fails, ends when it succeeds
	hosts  hosts    // the outages of hosts
	unkept onceEach // the texts that Unkept has warned of

	errors     *activity.Events                         // the last errors
	events     *activity.Events                         // the last things that happened to connections
	slowOnes   *activity.Recent[activity.SlowStatement] // the last statements that were slow
	statements atomic.Pointer[activity.Statements]      // durations by summary; nil: Watch was not called
}

const (
	// never is a duration that no statement takes.
	never = math.MaxInt64
	// maxRemembered is how many errors, and how many events, are kept for the live page.
	maxRemembered = 100
	// maxSlow is how many statements that were slow are kept for it.
	maxSlow = 50
)

// New returns an empty diary. The pool that owns it calls Close.
func New(o Options) *Diary {
	d := &Diary{
		options: o, slow: o.Slow,
		errors: activity.NewEvents(maxRemembered), events: activity.NewEvents(maxRemembered),
		slowOnes: activity.NewRecent[activity.SlowStatement](maxSlow),
	}
	if d.slow == 0 {
		d.slow = never
	}
	d.ofCallers.LeftOut, d.ofPool.LeftOut = d.leftOut, d.leftOut
	return d
}

// Close writes lines for what was only counted so far. Afterwards lines are still written for the first few events of each
// kind, and further ones are not counted any more.
func (d *Diary) Close() {
	d.hosts.close()
	d.ofCallers.Close()
	d.ofPool.Close()
}

// Watch begins to keep what Statements and Slow return. It is called once, when a live page is made.
func (d *Diary) Watch() { d.statements.Store(activity.NewStatements()) }

// Statements returns the durations of statements by summary, those that took the most time in all first. Watch must have
// been called before.
func (d *Diary) Statements() []activity.Statement { return d.statements.Load().List() }

// Errors returns the last errors, the newest first.
func (d *Diary) Errors() []activity.Event { return d.errors.List() }

// Events returns the last things that happened to connections, the newest first.
func (d *Diary) Events() []activity.Event { return d.events.List() }

// Slow returns the last statements that were slow since Watch was called, the newest first.
func (d *Diary) Slow() []activity.SlowStatement {
	all := d.slowOnes.List()
	slices.Reverse(all)
	return all
}

// logger returns the application's logger, or slog's default logger of the moment.
func (d *Diary) logger() *slog.Logger {
	if d.options.Logger != nil {
		return d.options.Logger
	}
	return slog.Default()
}

// wants reports whether the application's handler takes lines of a level.
func (d *Diary) wants(ctx context.Context, level slog.Level) bool {
	return d.logger().Enabled(ctx, level)
}

// write writes one line, unless the application's handler doesn't take lines of this level. If ctx has a span, the line
// contains its ids. repeated is how often the same has happened since the last line about it; 0 is for a line about a single
// event.
func (d *Diary) write(ctx context.Context, level slog.Level, message string, repeated int, attrs ...slog.Attr) {
	logger := d.logger()
	if !logger.Enabled(ctx, level) {
		return
	}
	all := append(make([]slog.Attr, 0, len(attrs)+4), slog.String("pool", d.options.Pool))
	all = append(all, attrs...)
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		all = append(all, slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	if repeated > 0 {
		all = append(all, slog.Int("repeated", repeated))
	}
	logger.LogAttrs(ctx, level, message, all...)
}

// tell writes a line at once, or has limiter count it if events with the same key have had their lines lately: then one line
// is written later, which says how often that was. A line that the application's handler doesn't take isn't counted.
func (d *Diary) tell(ctx context.Context, limiter *quiet.Limiter, key string,
	level slog.Level, message string, attrs ...slog.Attr,
) {
	if !d.wants(ctx, level) {
		return
	}
	limiter.Log(key, func(r quiet.Repeats) {
		if r.Count > 0 {
			attrs = append(attrs, slog.Time("last", r.Last)) // the repetition may have ended before the line is written
		}
		d.write(ctx, level, message, r.Count, attrs...)
	})
}

// tellOfStatement is tell for a line about a statement. With Options.Echo each of them is written.
func (d *Diary) tellOfStatement(ctx context.Context, key string, level slog.Level, message string, attrs ...slog.Attr) {
	if d.options.Echo {
		d.write(ctx, level, message, 0, attrs...)
		return
	}
	d.tell(ctx, &d.ofCallers, key, level, message, attrs...)
}

// leftOut is called by a limiter after it had to leave out n lines, since too many different things happened at once.
func (d *Diary) leftOut(n int) {
	d.write(context.Background(), slog.LevelWarn, "pgprod: too much happens at once to log all of it, some lines were left out", 0,
		slog.Int("left_out", n))
}

// duration is the attribute of a duration, to the microsecond.
func duration(key string, d time.Duration) slog.Attr {
	return slog.Duration(key, d.Round(time.Microsecond))
}

// A Failure says what went wrong, in words that may be shown.
type Failure struct {
	Type string // its class, the same as in metrics
	Sort string // failures of the same sort are one entry in the list of errors, though the numbers in their texts differ
	Text string // one line
}
