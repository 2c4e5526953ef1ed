// Package diary tells what happens in one pool: it writes the log, and keeps the errors, the events and the durations of
// statements that the live page shows. It decides what is worth a line and keeps what repeats itself from flooding the log.
//
// Its methods take facts, in words that may be shown: no password, no value of a statement. It knows neither the pool nor
// its connections, and can be tested without a server. The application's log handler may do anything, take its time or use
// the pool that it logs for; therefore it is called while no lock is held, neither the diary's nor package quiet's.
//
//	diary.go        how a line is written, or counted when the same happens again
//	connections.go  connections come, are lent, are held for too long, and go
//	server.go       the server can't be reached, closes connections, is unhealthy, or isn't set up well
//	statements.go   statements that failed, were slow, or left something to warn of
//	outage.go       the beginning and the end of an outage
package diary

import (
	"context"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/quiet"
)

// Options are what the application has chosen.
type Options struct {
	Pool     string        // the pool's name, which each line has
	Logger   *slog.Logger  // nil: slog.Default() at the time of each line
	Echo     bool          // write a line for every statement, and none is only counted
	EchoPool bool          // write a line whenever a connection is made, closed, lent or given back
	Slow     time.Duration // from which on a statement is logged, its wait for a connection included; 0: never
}

// A Diary is one pool's. It is safe for concurrent use.
type Diary struct {
	options Options
	slow    time.Duration // Options.Slow, or never

	ofCallers quiet.Limiter // limits the lines about what callers and their statements do
	ofPool    quiet.Limiter // limits those about the pool and its server, which the former must not crowd out

	dials  outage // as the attempts to connect see it
	checks outage // as the checks of the server's health see it, also where nobody uses the pool
	unkept onceEach

	errors     *activity.Events
	events     *activity.Events
	statements atomic.Pointer[activity.Statements] // nil: nobody watches
}

const (
	// never is a duration that no statement takes.
	never = math.MaxInt64
	// maxRemembered is how many errors, and how many events, are kept for the live page.
	maxRemembered = 100
)

// New returns an empty diary. Its owner calls Close.
func New(o Options) *Diary {
	d := &Diary{
		options: o, slow: o.Slow,
		errors: activity.NewEvents(maxRemembered), events: activity.NewEvents(maxRemembered),
	}
	if d.slow == 0 {
		d.slow = never
	}
	d.ofCallers.LeftOut, d.ofPool.LeftOut = d.leftOut, d.leftOut
	return d
}

// Close writes what has only been counted so far. Later events are still told, but the first few of each kind only.
func (d *Diary) Close() {
	d.ofCallers.Close()
	d.ofPool.Close()
}

// Watch begins to keep durations of statements, for Statements to return. It is called once, before Statements, when a live
// page is made.
func (d *Diary) Watch() { d.statements.Store(activity.NewStatements()) }

// Statements are the durations of statements by summary, those that took the most time in all first.
func (d *Diary) Statements() []activity.Statement { return d.statements.Load().List() }

// Errors are the last errors, the newest first.
func (d *Diary) Errors() []activity.Event { return d.errors.List() }

// Events are the last things that happened to connections, the newest first.
func (d *Diary) Events() []activity.Event { return d.events.List() }

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

// write writes one line. ctx may hold the span that the line belongs to. repeated is how often the same has happened since
// it was last told, 0 for a line of one event.
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

// tell writes a line, or has limiter count it if what key stands for happens again and again: it is then written later, with
// how often that was. A line that the application's handler doesn't take isn't counted.
func (d *Diary) tell(ctx context.Context, limiter *quiet.Limiter, key string,
	level slog.Level, message string, attrs ...slog.Attr,
) {
	if !d.wants(ctx, level) {
		return
	}
	limiter.Log(key, func(r quiet.Repeats) {
		if r.Count > 0 {
			attrs = append(attrs, slog.Time("last", r.Last)) // it may be over by now
		}
		d.write(ctx, level, message, r.Count, attrs...)
	})
}

// tellOfStatement is tell for what a statement did. Who reads a line for every statement has none of them counted.
func (d *Diary) tellOfStatement(ctx context.Context, key string, level slog.Level, message string, attrs ...slog.Attr) {
	if d.options.Echo {
		d.write(ctx, level, message, 0, attrs...)
		return
	}
	d.tell(ctx, &d.ofCallers, key, level, message, attrs...)
}

// leftOut is called by a limiter when so many different things happened that not each of them got a line.
func (d *Diary) leftOut(n int) {
	d.write(context.Background(), slog.LevelWarn, "pgprod: too much happens at once to log all of it, some lines were left out", 0,
		slog.Int("left_out", n))
}

func duration(key string, d time.Duration) slog.Attr {
	return slog.Duration(key, d.Round(time.Microsecond))
}

// A Failure says what went wrong, in words that may be shown.
type Failure struct {
	Type string // its class, the same as in metrics
	Sort string // what failures have in common that are one entry in the list of errors, whatever numbers are in their texts
	Text string
}
