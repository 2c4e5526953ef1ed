// Package hosts is what one pool knows of the hosts that its DSN names: which of them answer, in which role, and which of them
// a dial should try. Whoever has heard something of a host tells the Board; the Scout sees to it that there is something to
// hear.
//
//	hosts.go  Board and Host: what is known
//	role.go   roles, and what target_session_attrs asks for
//	claim.go  which of two hosts that claim to be the primary is
//	plan.go   which hosts a dial tries, and in which order
//	better.go whether connections should move to another host
//	name.go   what a name has led to
//	silent.go the error of a host that says nothing any more
//	scout.go  Scout: when a host is asked in the background
package hosts

import (
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/pgprod/pgprod/internal/settings"
)

// State says whether a host can be used.
type State uint8

const (
	Unknown State = iota // nobody has asked it yet
	Up                   // the last that was heard of it was a login that succeeded
	Down                 // the last attempt to log in has failed, its connections were lost, or it is silent
)

// String is the state in words, for people and metrics.
func (s State) String() string { return [...]string{"unknown", "up", "down"}[s] }

// Options are what a Board is made with.
type Options struct {
	Hosts  []settings.Host // in the DSN's order
	Wanted Wanted
	Random bool // load_balance_hosts=random
	// Changed is called when the state or the role of a host has changed, by the goroutine that has told the Board, without a lock
	// of this package. nil: nobody is told.
	Changed func(*Host, Change)
}

// A Change is what became known of a host.
type Change struct {
	Was, Is Status
}

// A Board has the hosts of one pool. It is safe for concurrent use.
type Board struct {
	opts  Options
	hosts []*Host // not changed

	mu sync.Mutex // guards the status of all hosts; nothing else is locked under it
}

// A Host is one host of the DSN: a name, an address, or the directory of a socket, and a port. A name may have several
// addresses. It is safe for concurrent use.
type Host struct {
	board  *Board
	at     settings.Host
	name   string
	index  int    // in the DSN's order
	status Status // guarded by Board.mu
	claim  Claim  // guarded by Board.mu
}

// Status is what is known of a host at one time.
type Status struct {
	State   State
	Role    Role          // as it was when the host last said so
	Was     Role          // its role before that
	Changed time.Time     // when it changed from Was to Role; zero: it has not yet
	Since   time.Time     // from when on it has had this state; zero: it was always Unknown
	Asked   time.Time     // when it last answered, or failed to; zero: never
	Latency time.Duration // how long its last answer took; 0: not known
	Err     error         // why it is Down; else nil
}

// PromotedSince reports whether the host can be used, and has become the primary after that time, of a standby.
func (s Status) PromotedSince(t time.Time) bool {
	return s.State == Up && s.Role == Primary && s.Was == Standby && s.Changed.After(t)
}

// New returns a Board of hosts of which nothing is known.
func New(o Options) *Board {
	b := &Board{opts: o}
	for i, at := range o.Hosts {
		b.hosts = append(b.hosts, &Host{board: b, at: at, name: nameOf(at), index: i})
	}
	return b
}

// nameOf returns how a host is called: host:port, or the path of its socket's directory and the port.
func nameOf(at settings.Host) string {
	if filepath.IsAbs(at.Host) {
		return at.Host + ":" + strconv.Itoa(int(at.Port))
	}
	return net.JoinHostPort(at.Host, strconv.Itoa(int(at.Port)))
}

// Hosts returns all hosts, in the DSN's order. The slice must not be changed.
func (b *Board) Hosts() []*Host { return b.hosts }

// Wanted returns what target_session_attrs asks for.
func (b *Board) Wanted() Wanted { return b.opts.Wanted }

// Name returns host:port as configured, or the directory of the socket and the port.
func (h *Host) Name() string { return h.name }

// At returns the host and the port as configured.
func (h *Host) At() settings.Host { return h.at }

// Status returns what is known of the host.
func (h *Host) Status() Status {
	h.board.mu.Lock()
	defer h.board.mu.Unlock()
	return h.status
}

// Serves reports whether the host is Up, and in a role that will do.
func (s Status) Serves(w Wanted) bool { return s.State == Up && w.Fit(s.Role) != Unfit }

// Serves notes that a login has succeeded, which has taken that long (0: not known), and in which role the server is.
func (h *Host) Serves(role Role, latency time.Duration) {
	h.update(func(s *Status) {
		s.State, s.Err = Up, nil
		if role != NoRole {
			s.Role = role
		}
		if latency > 0 {
			s.Latency = latency
		}
	})
}

// Fails notes that the host can't be used, and why.
func (h *Host) Fails(why error) {
	h.update(func(s *Status) { s.State, s.Err = Down, why })
}

// Lost notes that the server has ended a connection in a way that concerns the others too. It may be restarting, so that
// nothing is known of it now, but in which role it was. A host that is Down stays so.
func (h *Host) Lost() {
	h.update(func(s *Status) {
		if s.State != Down {
			s.State = Unknown
		}
	})
}

// HasRole notes the role that the server has said on one of its connections.
func (h *Host) HasRole(role Role) {
	h.update(func(s *Status) { s.Role = role })
}

// update changes the status by what was just heard.
func (h *Host) update(change func(*Status)) {
	h.change(func(s *Status) {
		change(s)
		s.Asked = time.Now()
	})
}

// change changes the status, and tells of the change if it is one.
func (h *Host) change(change func(*Status)) {
	b, now := h.board, time.Now()
	b.mu.Lock()
	was := h.status
	change(&h.status)
	h.status.Role = h.asLocked(h.status.Role)
	if h.status.State != was.State {
		h.status.Since = now
	}
	if h.status.Role != was.Role {
		h.status.Was, h.status.Changed = was.Role, now
	}
	is := h.status
	b.mu.Unlock()
	if b.opts.Changed != nil && (is.State != was.State || is.Role != was.Role) {
		b.opts.Changed(h, Change{Was: was, Is: is})
	}
}
