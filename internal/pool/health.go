package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/lease"
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
	// probeTimeout bounds one look at the server; the connection that there is gets reuseTimeout of it to answer.
	probeTimeout = 2 * time.Second
	reuseTimeout = probeTimeout / 3
	// probeKept is how long the connection of its own is kept after the last check.
	probeKept = time.Minute
	// longWait is how long a caller may wait for a connection before the pool is degraded.
	longWait = time.Second
)

// A prober looks at the server for all who want to know how it is, one look at a time, over a connection of its own:
// a full pool is not a dead database.
type prober struct {
	mu      sync.Mutex    // guards what follows
	last    answer        // zero: none yet
	running chan struct{} // closed when the look under way is over; nil: there is none
	idle    *time.Timer   // closes the connection when nobody asks any more; nil: there is none

	outage outage // as the looks see it, also where nobody else uses the pool
	c      *conn  // used by the look under way, or with mu held while there is none; nil: none
}

// answer is what a look found.
type answer struct {
	at         time.Time // when it was over
	err        error     // nil: the server answered
	latency    time.Duration
	version    string
	inRecovery bool
	readOnly   bool
}

// Check says how the server and the pool are. The server's part may be a second old.
func (p *Pool) Check(ctx context.Context) Health {
	a, err := p.answer(ctx)
	h := Health{
		CheckedAt: a.at, Latency: a.latency, ServerVersion: a.version, InRecovery: a.inRecovery,
		Pool: p.Status(), Warnings: p.Warnings(),
	}
	h.Status, h.Database = Healthy, Connected
	switch {
	case errors.Is(err, errClosed):
		h.Status, h.Database, h.Reason = Unhealthy, Disconnected, err.Error()
	case err != nil:
		h.Status, h.Database = Unhealthy, Disconnected
		h.Reason = "the check's own time was up before the server had answered, which says nothing of the server: " + err.Error()
	case p.dead(a):
		h.Status, h.Database, h.Reason = Unhealthy, Disconnected, safeText(a.err)
	case a.err != nil:
		h.Status, h.Reason = Degraded, "the server takes no more connections, those of the pool go on: "+safeText(a.err)
	case p.misplaced(a):
		h.Status, h.Reason = Degraded, "the server is not what target_session_attrs="+p.cfg.TargetSessionAttrs+" asks for: it is "+a.kind()
	default:
		if h.Reason = p.crowded(); h.Reason != "" {
			h.Status = Degraded
		}
	}
	return h
}

// full reports whether the server is there but has no room.
func full(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "53300"
}

// dead reports whether an answer says that the database can't be used. It can where the server has no room for more but
// the pool has connections.
func (p *Pool) dead(a answer) bool { return a.err != nil && !(full(a.err) && p.size.Load() > 0) }

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
	ctx, cancel := context.WithTimeout(p.life, probeTimeout)
	defer cancel()
	a := p.ask(ctx)
	a.at = time.Now()
	p.looked(a)

	h := &p.prober
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = a
	close(h.running)
	h.running = nil
	if h.c == nil || p.closed.Load() {
		return
	}
	if h.idle == nil {
		h.idle = time.AfterFunc(probeKept, p.forgetProbe)
	}
	h.idle.Reset(probeKept)
}

// looked tells of an outage's beginning and end, which nobody else notices in a service that has nothing to do.
func (p *Pool) looked(a answer) {
	outage := &p.prober.outage
	switch {
	case p.closed.Load():
	case p.dead(a):
		text := safeText(a.err)
		p.errors.Add("health", sortOf(a.err), text)
		if tell, untold := outage.begin(a.at); tell {
			p.write(p.life, slog.LevelError, "pgprod: the database is unhealthy", untold, slog.String("error", text))
		}
	case a.err == nil:
		if told, after, failures := outage.end(a.at); told {
			p.write(p.life, slog.LevelInfo, "pgprod: the database is healthy again", 0,
				slog.Duration("after", after.Round(time.Millisecond)), slog.Int("failed_checks", failures))
		}
	}
}

// ask asks on the connection that there is, and on a new one if it fails or leads to the wrong kind of server by now.
func (p *Pool) ask(ctx context.Context) answer {
	h := &p.prober
	if h.c != nil {
		soon, cancel := context.WithTimeout(ctx, reuseTimeout)
		a := h.c.examine(soon)
		cancel()
		if a.err == nil && !p.misplaced(a) {
			return a
		}
		h.c.drop()
		h.c = nil
	}
	c, err := p.probe(ctx)
	if err != nil {
		return answer{err: err}
	}
	a := c.examine(ctx)
	if a.err != nil {
		c.drop()
		return a
	}
	h.c = c
	return a
}

// probe connects outside the pool: to a server of the kind that the DSN asks for, else to any.
func (p *Pool) probe(ctx context.Context) (*conn, error) {
	c := p.newConn()
	c.probes = true
	ctx = context.WithValue(ctx, connecting{}, true)
	err := c.connect(ctx)
	if err != nil && p.cfg.Conn.ValidateConnect != nil {
		c = p.newConn()
		c.probes, c.anywhere = true, true
		err = c.connect(ctx)
	}
	if err != nil {
		return nil, p.dialError(err)
	}
	return c, nil
}

// asProbe changes how a connection is made that isn't for the pool. Each host gets its share of the time.
func (c *conn) asProbe(cc *pgx.ConnConfig) {
	const suffix, longest = " (pgprod check)", 63
	if name := cc.RuntimeParams["application_name"]; name != "" {
		cc.RuntimeParams = maps.Clone(cc.RuntimeParams) // pgx hands out the map that all dials share
		cc.RuntimeParams["application_name"] = name[:min(len(name), longest-len(suffix))] + suffix
	}
	cc.ConnectTimeout = min(cc.ConnectTimeout, probeTimeout/time.Duration(2+len(cc.Fallbacks)))
	if c.anywhere {
		cc.ValidateConnect = nil
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
	c.guard.stop()
	c.pool.background(c.hangUp)
}

// forgetProbe is called when nobody has asked for long.
func (p *Pool) forgetProbe() {
	h := &p.prober
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running == nil && h.c != nil && (p.closed.Load() || time.Since(h.last.at) >= probeKept) {
		h.c.drop()
		h.c = nil
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
	return slices.Concat(p.cfg.Warnings, p.preflight.found())
}
