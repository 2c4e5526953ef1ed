package link

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/hosts"
	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/settings"
)

// A lane is one host in a race.
type lane struct {
	race      *race
	host      *hosts.Host
	headStart time.Duration // how long it is tried before the next one begins; not changed
	patience  time.Duration // how long it may be silent before it counts as failing; not changed
	trusted   bool          // when the race began it was known to serve, and to be what is wanted; not changed

	// What follows is guarded by race.mu.
	stage  stage
	since  time.Time // when it began, or ended
	slow   bool      // it has had its head start, and Dialer.paths knows it
	late   bool      // it was silent for patience
	met    bool      // a server has accepted the login
	unfit  bool      // that isn't what is wanted
	err    error     // once it has ended: why it has no connection; nil: it has the dial's
	silent *time.Timer
}

// A stage is how far a lane is.
type stage uint8

const (
	idle  stage = iota // it has not begun
	runs               // its host is being tried
	waits              // it has a connection that is second best
	ended
)

// newLane returns the lane of a host.
func newLane(r *race, h *hosts.Host) *lane {
	s := h.Status()
	l := &lane{race: r, host: h, headStart: headStart, patience: max(leastPatience, r.cfg.DeadAfter, 2*s.Latency)}
	l.trusted = trusted(s, r.Dialer.hosts.Wanted())
	if s.State == hosts.Up { // it is known how long it takes
		l.headStart = min(max(headStart, 2*s.Latency), l.patience)
	}
	return l
}

// beginLocked notes that the lane begins, for the first time or once more. It is called with race.mu held, before start.
func (l *lane) beginLocked(now time.Time) {
	l.stage, l.since, l.late, l.met, l.unfit = runs, now, false, false, false
	l.silent = time.AfterFunc(l.patience, l.isLate) // stopped when the lane ends
}

// start tries the host, in a goroutine that ends with the lane's context, for which pgx takes connect_timeout at most for each
// address.
func (l *lane) start() {
	l.race.spawn(func() {
		ctx, release := l.race.laneContext()
		defer release()
		l.end(ctx, l.race.attempt(ctx, l))
	})
}

// isLate is called when a lane has been silent for patience. It goes on, but for other dials the host counts as failing.
func (l *lane) isLate() {
	r := l.race
	r.mu.Lock()
	l.late = l.stage == runs && !l.met
	late := l.late
	r.mu.Unlock()
	if late {
		l.host.Fails(l.silence())
		r.tell()
	}
}

// silence is why a lane that is late counts as failing.
func (l *lane) silence() error { return &silentError{l.host.Name(), l.patience} }

// end notes that a lane has ended, and tells what is known of its host by that.
func (l *lane) end(ctx context.Context, err error) {
	r := l.race
	r.mu.Lock()
	l.silent.Stop()
	l.stage, l.since, l.err = ended, time.Now(), err
	slow, met := l.slow, l.met
	l.slow = false
	r.mu.Unlock()
	if slow {
		r.paths.slower(l.host, -1)
	}
	if err != nil && !met && ctx.Err() == nil && pgerror.BlamesHost(err) {
		r.paths.forget(l.host)
		l.host.Fails(err)
	}
	r.tell()
}

// meets notes that a server has accepted the login of a lane, and what it is. unfit: it isn't what is wanted.
func (l *lane) meets(role hosts.Role, took time.Duration, unfit bool) {
	r := l.race
	r.mu.Lock()
	l.met, l.late = true, false
	l.unfit = l.unfit || unfit
	r.mu.Unlock()
	l.host.Serves(role, took)
}

// A leg is the attempt to connect to one address of a host.
type leg struct {
	lane    *lane
	lookup  pgconn.LookupFunc // resolves any name to the address; nil: it is a socket
	verdict chan bool         // gets what has become of the second best; has room for it
	met     bool              // the server has accepted the login
	heard   atomic.Int64      // by package clock: when the server has last sent something, if it is a check's; 0: it has not
}

// try makes a connection to one address. It returns nil if that is the race's winner, whatever becomes of it. met reports whether
// the server has accepted the login.
func (l *lane) try(ctx context.Context, lookup pgconn.LookupFunc) (met bool, err error) {
	r := l.race
	g := &leg{lane: l, lookup: lookup, verdict: make(chan bool, 1)}
	c, err := r.dialDropping(ctx, g)
	if r.won(g) {
		r.result <- made{c, err}
		return true, nil
	}
	if r.check != nil {
		r.check.forget(g)
	}
	if pgerror.EndsLogins(err) {
		r.endLogins()
	}
	return g.met, err
}

// errLost is why a connection isn't used that the server has accepted.
var errLost = errors.New("pgprod: another connection has come first")

// only restricts a configuration to the host of a leg. A host occurs twice where TLS is optional.
func (g *leg) only(cc *pgx.ConnConfig) {
	first := &pgconn.FallbackConfig{Host: cc.Host, Port: cc.Port, TLSConfig: cc.TLSConfig}
	ways := slices.DeleteFunc(append([]*pgconn.FallbackConfig{first}, cc.Fallbacks...), func(way *pgconn.FallbackConfig) bool {
		return settings.Host{Host: way.Host, Port: way.Port} != g.lane.host.At()
	})
	cc.Host, cc.Port, cc.TLSConfig, cc.Fallbacks = ways[0].Host, ways[0].Port, ways[0].TLSConfig, ways[1:]
	if g.lookup != nil {
		cc.LookupFunc = g.lookup
	}
}

// silentError is why a host counts as failing that has not answered.
type silentError struct {
	host string
	time time.Duration
}

func (e *silentError) Error() string {
	return fmt.Sprintf("%s: no answer within %v", e.host, e.time.Round(time.Millisecond))
}

// Unwrap says that it is a matter of time.
func (e *silentError) Unwrap() error { return context.DeadlineExceeded }
