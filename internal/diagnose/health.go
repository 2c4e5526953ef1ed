// Package diagnose asks the server how it is: for health checks, over connections of its own, and once, in the preflight, for
// what is wrong with the server, the role or their settings.
//
//	health.go     how the server and the pool are
//	inquiry.go    asks the server for that
//	preflight.go  asks once how the server is set up
//	judge.go      and says what is wrong with it
package diagnose

import (
	"cmp"
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
	// answerFor is how long an answer of the server's serves all who ask.
	answerFor = time.Second
	// probeTimeout bounds one look at the server. What hasn't answered within a third of it is asked in another way as well.
	probeTimeout = 2 * time.Second
	nextWay      = probeTimeout / 3
	// probeKept is how long the connection of its own is kept after the last check.
	probeKept = time.Minute
	// longWait is how long a caller may wait for a connection before the pool is degraded.
	longWait = time.Second
)

// A Pool is what a diagnosis needs of the pool that it is about. Its methods are safe for concurrent use.
type Pool interface {
	Settings() *settings.Config // which are not changed
	Dialer() *link.Dialer
	Diary() *diary.Diary
	Failure(error) diary.Failure // an error in words that the diary may show
	Life() context.Context       // ends with Close
	Closed() bool
	Run(task func())         // in a goroutine that Close waits for
	Observer() link.Observer // for connections that aren't the pool's
	Status() activity.Status
	Figures() lease.Stats
	HeardSince(since int64) bool // whether the server has answered on a connection of the pool's, by package clock
	// WithIdle calls ask with an idle connection, and reports whether there was one. It is no checkout that anybody counts.
	WithIdle(ask func(*link.Conn) error) (found bool, err error)
}

// A Prober looks at the server for all who want to know how it is, one look at a time, over connections of its own:
// a full pool is not a dead database.
type Prober struct {
	Pool
	cfg *settings.Config

	mu      sync.Mutex    // guards what follows; of others only those of the guard and of the pool's tasks are locked under it
	last    answer        // zero: none yet
	running chan struct{} // closed when the look under way is over; nil: there is none
	idle    *time.Timer   // closes the connection when nobody asks any more; nil: there is none
	asking  []*inquiry    // that are under way, or over and not yet seen to by a look; the oldest first
	c       *link.Conn    // kept for the next question; nil: none
	heard   *atomic.Int64 // what c hears

	news        chan struct{} // has room for one: an inquiry is over
	silentSince int64         // by package clock: the first look in a row without an answer from anywhere; 0: the last had one. Only looks use it
}

// NewProber returns a prober, which does nothing before somebody asks.
func NewProber(p Pool) *Prober {
	return &Prober{Pool: p, cfg: p.Settings(), news: make(chan struct{}, 1)}
}

// answer is what a look found.
type answer struct {
	at         time.Time // when it was over
	err        error     // nil: the server answered
	life       life      // what shows that it is alive, if err isn't nil
	latency    time.Duration
	version    string
	inRecovery bool
	readOnly   bool
}

// life is what shows that a server is alive that hasn't answered a check's question.
type life int

const (
	noSign life = iota
	heard       // the check's own connection: the server, or a pooler before it, speaks, but doesn't come to the question
	inUse       // the pool's connections: the server has answered on one of them
)

// Check says how the server and the pool are. The server's part may be a second old.
func (h *Prober) Check(ctx context.Context, warnings []string) activity.Health {
	a, err := h.answer(ctx)
	is := activity.Health{
		CheckedAt: a.at, Latency: a.latency, ServerVersion: a.version, InRecovery: a.inRecovery,
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
	case h.dead(a):
		is.Status, is.Reason = activity.Unhealthy, link.SafeText(a.err)
	default:
		if is.Reason = h.impaired(a); is.Reason != "" {
			is.Status = activity.Degraded
		} else {
			is.Status = activity.Healthy
		}
	}
	is.Database = activity.Connected
	if is.Status == activity.Unhealthy {
		is.Database = activity.Disconnected
	}
	return is
}

// impaired says in what way a server that is alive, or the pool, isn't as it should be, "" if all is well.
func (h *Prober) impaired(a answer) string {
	switch {
	case a.err == nil && h.misplaced(a):
		return "the server is not what target_session_attrs=" + h.cfg.TargetSessionAttrs + " asks for: it is " + a.kind()
	case a.err == nil:
		return h.crowded()
	case pgerror.ServerIsFull(a.err):
		return "the server takes no more connections, those of the pool go on: " + link.SafeText(a.err)
	case a.life == inUse:
		return "the check's own connection fails, those of the pool go on: " + link.SafeText(a.err)
	}
	return "the server can be reached but doesn't answer the check's question in time: it or the network is slow, or a pooler before it " +
		"has no connection to it free: " + link.SafeText(a.err)
}

// dead reports whether an answer says that the database can't be used. It can where the server is alive all the same, or
// has no room for more but the pool has connections.
func (h *Prober) dead(a answer) bool {
	return a.err != nil && a.life == noSign && !(pgerror.ServerIsFull(a.err) && h.Figures().Open > 0)
}

func (a answer) kind() string {
	switch {
	case a.inRecovery:
		return "a standby"
	case a.readOnly:
		return "read-only"
	}
	return "a primary"
}

// misplaced reports whether the server is another kind than was asked for.
func (h *Prober) misplaced(a answer) bool {
	switch h.cfg.TargetSessionAttrs {
	case "read-write":
		return a.inRecovery || a.readOnly
	case "primary":
		return a.inRecovery
	case "standby":
		return !a.inRecovery
	case "read-only":
		return !a.readOnly
	}
	return false
}

// crowded says in what way there are too few connections, "" if there are enough.
func (h *Prober) crowded() string {
	s := h.Figures()
	switch limit := h.cfg.MaxConns(); {
	case limit > 0 && int64(s.Lent) >= limit:
		return "the pool is exhausted: " + allInUse(limit) + ", " + waitingNow(s) +
			"; look for long transactions, unclosed rows and slow statements: the live page shows who holds connections"
	case s.Longest <= longWait:
		return ""
	case s.LastError != nil:
		return waitingNow(s) + ": the last attempt to connect failed: " + link.HidePassword(link.Within(s.LastError), s.LastError)
	default:
		return fmt.Sprintf("%s: %d of %d connections are in use, %d are being made", waitingNow(s), s.Lent, h.cfg.Capacity(), s.Dialing)
	}
}

func allInUse(limit int64) string {
	if limit == 1 {
		return "its only connection is in use"
	}
	return fmt.Sprintf("all %d connections are in use", limit)
}

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

// answer returns the last answer if it is new enough, else that of the look under way, which it begins if there is none.
// The error is for a caller that couldn't stay for it.
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
		go h.look() // bounded by probeTimeout and the pool's life; Close waits for running
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

// look asks the server and publishes its answer.
func (h *Prober) look() {
	a := h.observe()
	h.looked(a)

	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = a
	close(h.running)
	h.running = nil
	if h.c == nil && len(h.asking) == 0 || h.Closed() {
		return
	}
	if h.idle == nil {
		h.idle = time.AfterFunc(probeKept, h.forgetProbe)
	}
	h.idle.Reset(probeKept)
}

// observe asks the server and, if it doesn't answer, looks for other signs of life.
func (h *Prober) observe() (a answer) {
	began := clock.Now()
	ctx, cancel := context.WithTimeout(h.Life(), probeTimeout)
	defer cancel()
	if h.silentSince != 0 && began-h.silentSince >= int64(h.longSilence()) {
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
		a.life = inUse
	case a.life == heard && clock.Now()-h.silentSince >= int64(h.longSilence()):
		a.life = noSign
	}
	return a
}

// longSilence is how long a server may be heard but not answer, neither a check nor anybody else, before it is as good as
// dead: as long as a statement may take. A pooler still lets clients in when the server behind it is gone.
func (h *Prober) longSilence() time.Duration {
	const least, most = 3 * probeTimeout, 30 * time.Second
	if h.cfg.CommandTimeout <= 0 {
		return most
	}
	return min(max(h.cfg.CommandTimeout, least), most)
}

// askIdle asks on an idle connection of the pool's, before a server is given up that only lets clients in: with a pooler in
// session mode the pool's connections may be all that there are, and nobody may be using them.
func (h *Prober) askIdle(ctx context.Context) {
	_, _ = h.WithIdle(func(c *link.Conn) error { return c.Ping(ctx, nextWay, guard.HangingUp) }) // which notes the answer
}

// looked tells the diary how the database is. Nobody else notices an outage in a service that has nothing to do.
func (h *Prober) looked(a answer) {
	switch {
	case h.Closed():
	case h.dead(a):
		h.Diary().Unhealthy(h.Life(), a.at, h.Failure(a.err))
	case a.err == nil:
		h.Diary().Healthy(h.Life(), a.at)
	}
}

// examine asks the server who it is.
func (h *Prober) examine(ctx context.Context, c *link.Conn) (a answer) {
	const question = "select current_setting('server_version'), pg_is_in_recovery(), current_setting('transaction_read_only')"
	start := time.Now()
	results, err := c.Ask(ctx, question, guard.HangingUp)
	a.latency = time.Since(start)
	if err = cmp.Or(ctx.Err(), err); err != nil {
		a.err = fmt.Errorf("pgprod: pool %s: the server doesn't answer: %w", h.cfg.PoolName, c.Real(err))
		return a
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 3 {
		a.err = fmt.Errorf("pgprod: pool %s: the server's reply makes no sense", h.cfg.PoolName)
		return a
	}
	row := results[0].Rows[0]
	a.version, a.inRecovery, a.readOnly = string(row[0]), string(row[1]) == "t", string(row[2]) == "on"
	return a
}

// drop closes a check's connection.
func (h *Prober) drop(c *link.Conn) {
	c.Stop()
	h.Run(c.HangUp)
}

// forgetProbe is called when nobody has asked for long.
func (h *Prober) forgetProbe() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running == nil && (h.Closed() || time.Since(h.last.at) >= probeKept) {
		h.forgetLocked()
	}
}

// Close waits for the look under way, and closes the connection that was kept. The pool calls it when its life has ended.
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
