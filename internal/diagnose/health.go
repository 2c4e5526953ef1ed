// Package diagnose asks the server questions on behalf of the pool. Health checks ask whether it is alive, over connections
// of their own. The preflight asks once, over an idle connection of the pool, what is wrong with the server, the role or
// their settings.
//
//	health.go     health checks: the Prober, and the verdict on the server and the pool
//	inquiry.go    how a health check gets an answer from the server
//	about.go      how the server is asked about slow statements, over the same connection
//	sessions.go   what its answer says they wait for
//	plans.go      which of them are explained, and their plans
//	explain.go    how the server is asked for a plan, over the same connection
//	plantext.go   a plan as text, without literals
//	everybody.go  who does what on a server, whatever the program
//	kind.go       what kind of server there is
//	preflight.go  the preflight: when it asks
//	facts.go      what it asks
//	judge.go      what the answers say is wrong
package diagnose

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/diary"
	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/lease"
	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/settings"
)

const (
	// answerFor is how long an answer is valid: all who check within this time get it without another question.
	answerFor = time.Second
	// probeTimeout is how long one look at the server takes at most.
	probeTimeout = 2 * time.Second
	// nextWay is how long a look waits for an answer before it asks in another way as well.
	nextWay = probeTimeout / 3
	// probeKept is how long the connection for health checks is kept after the last check.
	probeKept = time.Minute
	// longWait is how long a caller may wait for a connection before the pool counts as degraded.
	longWait = time.Second
	// stateFor is for how long metrics show what a look has found, if no other comes after it.
	stateFor = 5 * time.Minute
)

// A Pool is what this package needs of the pool. Its methods are safe for concurrent use.
type Pool interface {
	Settings() *settings.Config // must not be changed
	Dialer() *link.Dialer
	Diary() *diary.Diary
	Failure(error) diary.Failure // puts an error into words that the diary may show
	Life() context.Context       // ends when the pool is closed
	Closed() bool
	Run(task func())         // runs task in a goroutine that the pool's Close waits for
	Observer() link.Observer // returns an observer for a connection that isn't the pool's
	Status() activity.Status
	Figures() lease.Stats
	HeardSince(since int64) bool // whether the server has answered the pool since then, by package clock
	// WithIdle calls ask with an idle connection of the pool's, and returns its error. found reports whether there was one that
	// is alive. It doesn't count as a checkout.
	WithIdle(ask func(*link.Conn) error) (found bool, err error)
}

// A Prober answers health checks. It looks at the server, one look at a time for all who ask, over connections of its own,
// so that a pool without a free connection doesn't look like a dead database. It is safe for concurrent use.
type Prober struct {
	Pool
	cfg *settings.Config

	mu      sync.Mutex    // guards what follows up to renewed; only the guard's and the tasks' mutexes are locked under it
	last    answer        // the last look's; zero: there was none yet
	running chan struct{} // closed when the look under way is over; nil: there is none
	idle    *time.Timer   // closes conn when nobody has asked for probeKept; nil before the first question
	asking  []*inquiry    // those under way, and those that are over and were not gathered by a look yet; the oldest first
	conn    *link.Conn    // the connection that is kept for the next question; nil: there is none, or over uses it
	heard   *atomic.Int64 // link.Check.Heard of conn
	renews  bool          // Renew was called during the look under way
	renewed int           // how often Renew was called

	news chan struct{} // gets a value when an inquiry is over; has room for one, so that no sender blocks
	// silentSince is when the first of the latest looks in a row began that had no answer from anywhere, by package clock; 0:
	// the last look had one. Only looks use it, one at a time.
	silentSince int64
}

// NewProber returns a prober for a pool. It does nothing before Check is called.
func NewProber(p Pool) *Prober {
	return &Prober{Pool: p, cfg: p.Settings(), news: make(chan struct{}, 1)}
}

// An answer is what a look at the server has found.
type answer struct {
	at      time.Time // when the look was over
	err     error     // nil: the server has answered
	sign    sign      // why the server is alive nevertheless, if err isn't nil
	latency time.Duration
	kind    Kind
	status  string // the verdict when the look was over; "" before
}

// A sign is what shows that a server is alive although it has not answered a check's question.
type sign int

const (
	noSign    sign = iota // there is none
	signHeard             // the check's own connection: the server, or a pooler, has sent something, but no answer
	signInUse             // the server has answered on one of the pool's connections
)

// Check reports how the server and the pool are. What it says of the server may be as old as answerFor. If ctx ends before
// there is an answer, it is judged by whether the pool's connections have had one. warnings are passed on in the result.
func (h *Prober) Check(ctx context.Context, warnings []string) activity.Health {
	a, err := h.answer(ctx)
	is := activity.Health{
		CheckedAt: a.at, Latency: a.latency, ServerVersion: a.kind.Version, InRecovery: a.kind.InRecovery,
		Pool: h.Status(), Warnings: warnings,
	}
	switch {
	case errors.Is(err, errClosed):
		is.Status, is.Reason = activity.Unhealthy, err.Error()
	case err != nil && h.HeardSince(clock.Now()-int64(answerFor)):
		is.Status, is.Reason = activity.Degraded, "the check's own time was up before it had an answer, the pool's connections go on: "+err.Error()
	case err != nil:
		is.Status = activity.Unhealthy
		is.Reason = "the check's own time was up before the server had answered, which says nothing of the server: " + err.Error()
	default:
		is.Status, is.Reason = h.verdict(a)
	}
	is.Database = activity.Connected
	if is.Status == activity.Unhealthy {
		is.Database = activity.Disconnected
	}
	return is
}

// verdict says how the server and the pool are by an answer, and why they aren't healthy.
func (h *Prober) verdict(a answer) (status, reason string) {
	if h.dead(a) {
		return activity.Unhealthy, link.SafeText(a.err)
	}
	if reason = h.impaired(a); reason != "" {
		return activity.Degraded, reason
	}
	return activity.Healthy, ""
}

// State returns the status that the last look has found, for metrics; "" if there was none within stateFor. It asks nobody.
func (h *Prober) State() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last.at.IsZero() || time.Since(h.last.at) >= stateFor {
		return ""
	}
	return h.last.status
}

// impaired says what is wrong with a server that is alive, or with the pool. It returns "" if all is well.
func (h *Prober) impaired(a answer) string {
	switch {
	case a.err == nil && !a.kind.Fits(h.cfg.TargetSessionAttrs):
		return "the server is not what target_session_attrs=" + h.cfg.TargetSessionAttrs + " asks for: it is " + a.kind.String()
	case a.err == nil:
		return h.crowded()
	case pgerror.ServerIsFull(a.err):
		return "the server takes no more connections, those of the pool go on: " + link.SafeText(a.err)
	case a.sign == signInUse:
		return "the check's own connection fails, those of the pool go on: " + link.SafeText(a.err)
	}
	return "the server can be reached but doesn't answer the check's question in time: it or the network is slow, or a pooler before it " +
		"has no connection to it free: " + link.SafeText(a.err)
}

// dead reports whether an answer means that the database can't be used. It can be used in spite of an error if there is
// another sign that the server is alive, or if the server only takes no more connections and the pool has some.
func (h *Prober) dead(a answer) bool {
	return a.err != nil && a.sign == noSign && !(pgerror.ServerIsFull(a.err) && h.Figures().Open > 0)
}

// crowded says in what way the pool has too few connections. It returns "" if it has enough.
func (h *Prober) crowded() string {
	s := h.Figures()
	switch limit := h.cfg.MaxConns(); {
	case limit > 0 && int64(s.Lent) >= limit:
		return "the pool is exhausted: " + allInUse(limit) + ", " + waitingNow(s) +
			"; look for long transactions, unclosed rows and slow statements: the live page shows who holds connections"
	case s.Longest <= longWait:
		return ""
	case s.LastError != nil:
		return waitingNow(s) + ": the last attempt to connect failed: " + link.HideForeign(link.Within(s.LastError), s.LastError)
	default:
		return fmt.Sprintf("%s: %d of %d connections are in use, %d are being made", waitingNow(s), s.Lent, h.cfg.Capacity(), s.Dialing)
	}
}

// allInUse is the part of a reason about a pool whose connections, limit in number, are all lent.
func allInUse(limit int64) string {
	if limit == 1 {
		return "its only connection is in use"
	}
	return fmt.Sprintf("all %d connections are in use", limit)
}

// waitingNow is the part of a reason about the callers that wait.
func waitingNow(s lease.Stats) string {
	switch longest := s.Longest.Round(time.Millisecond); s.Waiting {
	case 0:
		return "nobody waits"
	case 1:
		return fmt.Sprintf("a caller has waited for %v", longest)
	default:
		return fmt.Sprintf("%d callers wait, the first for %v", s.Waiting, longest)
	}
}

var errClosed = errors.New("the database handle is closed")

// answer returns the last answer if it is not older than answerFor. Otherwise it waits for the look under way, and begins
// one if there is none. The error is ctx's if ctx ends first, or says that the pool is closed.
func (h *Prober) answer(ctx context.Context) (answer, error) {
	h.mu.Lock()
	if h.Closed() {
		h.mu.Unlock()
		return answer{at: time.Now()}, fmt.Errorf("pgprod: pool %s: %w", h.cfg.PoolName, errClosed)
	}
	if !h.last.at.IsZero() && time.Since(h.last.at) < answerFor {
		defer h.mu.Unlock()
		return h.last, nil
	}
	if h.running == nil {
		h.running = make(chan struct{})
		go h.refresh() // bounded by probeTimeout and the pool's life; Close waits for running
	}
	running := h.running
	h.mu.Unlock()
	select {
	case <-running:
	case <-ctx.Done():
		return answer{at: time.Now()}, ctx.Err()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last, nil
}

// refresh is one look at the server, in a goroutine of its own: it asks, publishes the answer in h.last, and keeps the
// connection for the next look. It ends within probeTimeout, or soon after the pool's life.
func (h *Prober) refresh() {
	a := h.observe()
	a.status, _ = h.verdict(a)
	h.noteHealth(a)

	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = a
	close(h.running)
	h.running = nil
	if h.renews {
		h.renews = false
		h.forgetLocked()
	}
	if h.conn != nil || len(h.asking) > 0 {
		h.forgetLaterLocked()
	}
}

// forgetLaterLocked sets the timer that closes what the prober has when nobody has used it for probeKept. It is called with
// h.mu held.
func (h *Prober) forgetLaterLocked() {
	if h.Closed() {
		return
	}
	if h.idle == nil {
		h.idle = time.AfterFunc(probeKept, h.forgetProbe)
	}
	h.idle.Reset(probeKept)
}

// observe asks the server. If it doesn't answer, observe looks for other signs that it is alive, and keeps count of how long
// nothing has been answered.
func (h *Prober) observe() (a answer) {
	began := clock.Now()
	ctx, cancel := context.WithTimeout(h.Life(), probeTimeout)
	defer cancel()
	if h.silentSince != 0 && began-h.silentSince >= int64(h.longSilence()) { // it is about to count as dead
		h.askIdle(ctx)
	}
	a = h.ask(ctx)
	a.at = time.Now()
	answered := a.err == nil || h.HeardSince(began-int64(answerFor))
	switch {
	case answered:
		h.silentSince = 0
	case h.silentSince == 0:
		h.silentSince = began
	}
	switch {
	case a.err == nil:
	case answered:
		a.sign = signInUse
	case a.sign == signHeard && clock.Now()-h.silentSince >= int64(h.longSilence()):
		a.sign = noSign // it was heard for too long without an answer
	}
	return a
}

// longSilence returns for how long the other end may be heard without answering anything, neither a check nor a statement,
// before the server counts as dead: about as long as a statement may take. A pooler goes on accepting logins when its server
// is gone.
func (h *Prober) longSilence() time.Duration {
	const least, most = 3 * probeTimeout, 30 * time.Second
	if h.cfg.CommandTimeout <= 0 {
		return most
	}
	return min(max(h.cfg.CommandTimeout, least), most)
}

// askIdle pings on an idle connection of the pool's, before a server that is heard but doesn't answer is given up. Behind a
// pooler in session mode, the pool's connections may be the only ones that have a server, and nobody may be using them.
func (h *Prober) askIdle(ctx context.Context) {
	// The ping notes the answer in the connection, where HeardSince finds it.
	_, _ = h.WithIdle(func(c *link.Conn) error { return c.Ping(ctx, nextWay, guard.HangingUp) })
}

// noteHealth tells the diary how the database is. In a service that has nothing to do, nobody else notices an outage.
func (h *Prober) noteHealth(a answer) {
	switch {
	case h.Closed():
	case h.dead(a):
		h.Diary().Unhealthy(h.Life(), a.at, h.Failure(a.err))
	case a.err == nil:
		h.Diary().Healthy(h.Life(), a.at)
	}
}

// examine asks the server, over a connection, for its version and its kind.
func (h *Prober) examine(ctx context.Context, c *link.Conn) (a answer) {
	start := time.Now()
	a.kind, a.err = AskKind(ctx, c)
	a.latency = time.Since(start)
	if a.err != nil {
		a.err = fmt.Errorf("pgprod: pool %s: %w", h.cfg.PoolName, a.err)
	}
	return a
}

// drop closes a connection of the prober's. It doesn't wait for the network.
func (h *Prober) drop(c *link.Conn) {
	c.Stop()
	h.Run(c.HangUp)
}

// forgetProbe closes what the prober has, unless a look is under way, or one was less than probeKept ago and the pool is
// open. The timer calls it, and Close.
func (h *Prober) forgetProbe() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running == nil && (h.Closed() || time.Since(h.last.at) >= probeKept) {
		h.forgetLocked()
	}
}

// Renew closes the connection that was kept, after the look under way if there is one, and has over close the one that
// it uses. The next look makes another.
func (h *Prober) Renew() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.renewed++
	if h.running != nil {
		h.renews = true
		return
	}
	h.forgetLocked()
}

// Close waits for the look under way and closes the connection that was kept. The pool calls it when its life has ended,
// which makes the look end soon.
func (h *Prober) Close() {
	h.mu.Lock()
	running := h.running
	if h.idle != nil {
		h.idle.Stop()
	}
	h.mu.Unlock()
	if running != nil {
		<-running
	}
	h.forgetProbe()
}
