package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/lease"
	"github.com/pgprod/pgprod/internal/pgerror"
)

// Words of Health.
const (
	Healthy      = "healthy"
	Degraded     = "degraded"
	Unhealthy    = "unhealthy"
	Connected    = "connected"
	Disconnected = "disconnected"
)

// Health is how the server and the pool are.
type Health struct {
	Status        string // Healthy, Degraded, Unhealthy
	Database      string // Connected, Disconnected
	Reason        string // "" if healthy
	CheckedAt     time.Time
	Latency       time.Duration // of one round trip
	ServerVersion string
	InRecovery    bool // a standby
	Pool          activity.Status
	Warnings      []string
}

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

// A prober looks at the server for all who want to know how it is, one look at a time, over connections of its own:
// a full pool is not a dead database.
type prober struct {
	mu      sync.Mutex    // guards what follows
	last    answer        // zero: none yet
	running chan struct{} // closed when the look under way is over; nil: there is none
	idle    *time.Timer   // closes the connection when nobody asks any more; nil: there is none
	asking  []*inquiry    // that are under way, or over and not yet seen to by a look; the oldest first
	c       *conn         // kept for the next question; nil: none

	news        chan struct{} // has room for one: an inquiry is over
	silentSince int64         // by clock(): the first look in a row without an answer from anywhere; 0: the last had one. Only looks use it
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
func (p *Pool) Check(ctx context.Context) Health {
	a, err := p.answer(ctx)
	h := Health{
		CheckedAt: a.at, Latency: a.latency, ServerVersion: a.version, InRecovery: a.inRecovery,
		Pool: p.Status(), Warnings: p.Warnings(),
	}
	switch {
	case errors.Is(err, errClosed):
		h.Status, h.Reason = Unhealthy, err.Error()
	case err != nil && p.answeredSince(clock.Now()-int64(answerFor)):
		h.Status, h.Reason = Degraded, "the check's own time was up before it had an answer, the pool's connections go on: "+err.Error()
	case err != nil:
		h.Status = Unhealthy
		h.Reason = "the check's own time was up before the server had answered, which says nothing of the server: " + err.Error()
	case p.dead(a):
		h.Status, h.Reason = Unhealthy, safeText(a.err)
	default:
		if h.Reason = p.impaired(a); h.Reason != "" {
			h.Status = Degraded
		} else {
			h.Status = Healthy
		}
	}
	h.Database = Connected
	if h.Status == Unhealthy {
		h.Database = Disconnected
	}
	return h
}

// impaired says in what way a server that is alive, or the pool, isn't as it should be, "" if all is well.
func (p *Pool) impaired(a answer) string {
	switch {
	case a.err == nil && p.misplaced(a):
		return "the server is not what target_session_attrs=" + p.cfg.TargetSessionAttrs + " asks for: it is " + a.kind()
	case a.err == nil:
		return p.crowded()
	case pgerror.ServerIsFull(a.err):
		return "the server takes no more connections, those of the pool go on: " + safeText(a.err)
	case a.life == inUse:
		return "the check's own connection fails, those of the pool go on: " + safeText(a.err)
	}
	return "the server can be reached but doesn't answer the check's question in time: it or the network is slow, or a pooler before it " +
		"has no connection to it free: " + safeText(a.err)
}

// dead reports whether an answer says that the database can't be used. It can where the server is alive all the same, or
// has no room for more but the pool has connections.
func (p *Pool) dead(a answer) bool {
	return a.err != nil && a.life == noSign && !(pgerror.ServerIsFull(a.err) && p.size.Load() > 0)
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
func (p *Pool) misplaced(a answer) bool {
	switch p.cfg.TargetSessionAttrs {
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
func (p *Pool) crowded() string {
	s := p.queue.Stats()
	switch limit := p.limit(); {
	case limit > 0 && int64(s.Lent) >= limit:
		return "the pool is exhausted: " + allInUse(limit) + ", " + waitingNow(s) +
			"; look for long transactions, unclosed rows and slow statements: the live page shows who holds connections"
	case s.Longest <= longWait:
		return ""
	case s.LastError != nil:
		return waitingNow(s) + ": the last attempt to connect failed: " + hidePassword(inside(s.LastError), s.LastError)
	default:
		return fmt.Sprintf("%s: %d of %d connections are in use, %d are being made", waitingNow(s), s.Lent, p.cfg.Capacity(), s.Dialing)
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
func (p *Pool) answer(ctx context.Context) (answer, error) {
	h := &p.prober
	h.mu.Lock()
	if p.closed.Load() {
		h.mu.Unlock()
		return answer{at: time.Now()}, fmt.Errorf("pgprod: pool %s: %w", p.cfg.PoolName, errClosed)
	}
	if !h.last.at.IsZero() && time.Since(h.last.at) < answerFor {
		defer h.mu.Unlock()
		return h.last, nil
	}
	if h.running == nil {
		h.running = make(chan struct{})
		go p.look() // bounded by probeTimeout and the pool's life; Close waits for running
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
func (p *Pool) look() {
	a := p.observe()
	p.looked(a)

	h := &p.prober
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = a
	close(h.running)
	h.running = nil
	if h.c == nil && len(h.asking) == 0 || p.closed.Load() {
		return
	}
	if h.idle == nil {
		h.idle = time.AfterFunc(probeKept, p.forgetProbe)
	}
	h.idle.Reset(probeKept)
}

// observe asks the server and, if it doesn't answer, looks for other signs of life.
func (p *Pool) observe() (a answer) {
	h, began := &p.prober, clock.Now()
	ctx, cancel := context.WithTimeout(p.life, probeTimeout)
	defer cancel()
	if h.silentSince != 0 && began-h.silentSince >= int64(p.longSilence()) {
		p.askIdle(ctx)
	}
	a = p.ask(ctx)
	a.at = time.Now()
	answered := a.err == nil || p.answeredSince(began-int64(answerFor))
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
	case a.life == heard && clock.Now()-h.silentSince >= int64(p.longSilence()):
		a.life = noSign
	}
	return a
}

// longSilence is how long a server may be heard but not answer, neither a check nor anybody else, before it is as good as
// dead: as long as a statement may take. A pooler still lets clients in when the server behind it is gone.
func (p *Pool) longSilence() time.Duration {
	const least, most = 3 * probeTimeout, 30 * time.Second
	if p.cfg.CommandTimeout <= 0 {
		return most
	}
	return min(max(p.cfg.CommandTimeout, least), most)
}

// askIdle asks on an idle connection of the pool's, before a server is given up that only lets clients in: with a pooler in
// session mode the pool's connections may be all that there are, and nobody may be using them.
func (p *Pool) askIdle(ctx context.Context) {
	_, _ = p.withIdle(ctx, func(c *conn) error { return c.ping(ctx, nextWay, guard.HangingUp) }) // which notes the answer
}

// answeredSince reports whether the server has answered on one of the pool's connections since a time. A login isn't an
// answer, since a pooler may have let us in.
func (p *Pool) answeredSince(since int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if at := c.proven.Load(); at >= since && at != c.dialled {
			return true
		}
	}
	return false
}

// looked tells the diary how the database is. Nobody else notices an outage in a service that has nothing to do.
func (p *Pool) looked(a answer) {
	switch {
	case p.closed.Load():
	case p.dead(a):
		p.diary.Unhealthy(p.life, a.at, failure(a.err))
	case a.err == nil:
		p.diary.Healthy(p.life, a.at)
	}
}

// examine asks the server who it is.
func (c *conn) examine(ctx context.Context) (a answer) {
	const question = "select current_setting('server_version'), pg_is_in_recovery(), current_setting('transaction_read_only')"
	start := time.Now()
	results, err := c.pg.Exec(ctx, question).ReadAll()
	a.latency = time.Since(start)
	if err = cmp.Or(ctx.Err(), err); err != nil {
		a.err = fmt.Errorf("pgprod: pool %s: the server doesn't answer: %w", c.pool.cfg.PoolName, c.real(err))
		return a
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 3 {
		a.err = fmt.Errorf("pgprod: pool %s: the server's reply makes no sense", c.pool.cfg.PoolName)
		return a
	}
	row := results[0].Rows[0]
	a.version, a.inRecovery, a.readOnly = string(row[0]), string(row[1]) == "t", string(row[2]) == "on"
	return a
}

// drop closes a connection that was never the pool's.
func (c *conn) drop() {
	c.guard.Stop()
	c.pool.tasks.run(c.hangUp)
}

// forgetProbe is called when nobody has asked for long.
func (p *Pool) forgetProbe() {
	h := &p.prober
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running == nil && (p.closed.Load() || time.Since(h.last.at) >= probeKept) {
		h.forgetLocked()
	}
}

// closeProber is called by Close, when life has ended.
func (p *Pool) closeProber() {
	h := &p.prober
	h.mu.Lock()
	running := h.running
	if h.idle != nil {
		h.idle.Stop()
	}
	h.mu.Unlock()
	if running != nil {
		<-running
	}
	p.forgetProbe()
}

// Warnings are what is wrong with the settings, and what the preflight found.
func (p *Pool) Warnings() []string {
	return slices.Concat(p.cfg.Warnings, p.preflight.known())
}
