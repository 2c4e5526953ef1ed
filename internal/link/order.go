package link

import (
	"time"

	"github.com/pgprod/pgprod/internal/hosts"
)

const (
	// headStart is how long a host, or an address, is tried before the next one is tried as well. RFC 8305 advises it.
	headStart = 250 * time.Millisecond
	// leastPatience is how long a host may be silent at least before it counts as failing.
	leastPatience = time.Second
)

// due is what a race has to do now.
type due struct {
	begin []*lane       // these lanes begin
	wait  time.Duration // if none does: until when there is nothing to do, unless something changes; 0: for ever
	won   bool          // there is a winner
	over  bool          // nobody can win any more
}

// look says what is to be done at now, and notes that it is.
func (r *race) look(now time.Time) (d due) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.winner == nil {
		d.begin, d.wait = r.turnsLocked(now)
	}
	if r.winner == nil && len(d.begin) == 0 && r.nobodyBetterLocked() {
		r.winLocked(r.seconds[0])
	}
	d.won = r.winner != nil
	r.over = !d.won && len(d.begin) == 0 && r.exhaustedLocked()
	d.over = r.over
	return d
}

// closedLocked reports whether no further lane begins. The first one does in any case, so that the error is pgx's. It is called
// with r.mu held.
func (r *race) closedLocked() bool {
	return r.lanes[0].stage != idle && (r.final || r.ctx.Err() != nil)
}

// turnsLocked returns the lanes whose turn it is at now, and if there are none, in how long there may be. When all have begun, a
// host that has failed is asked again, as long as another one is waited for: roles change, and servers come back. It is called
// with r.mu held.
func (r *race) turnsLocked(now time.Time) (begin []*lane, wait time.Duration) {
	if r.closedLocked() {
		return nil, 0
	}
	var next time.Time // the earliest time at which something is to be done
	for i, l := range r.lanes {
		at := r.turnLocked(i)
		switch {
		case at.IsZero():
		case !at.After(now):
			r.passLocked(l)
			l.beginLocked(now)
			begin = append(begin, l)
		case next.IsZero() || at.Before(next):
			next = at
		}
		if l.stage == idle {
			break // those after it don't begin before it
		}
	}
	if len(begin) > 0 || next.IsZero() {
		return begin, 0
	}
	return nil, next.Sub(now)
}

// turnLocked returns when the turn of the i-th lane comes; zero: it has come, or it isn't known when. It is called with r.mu held.
func (r *race) turnLocked(i int) (at time.Time) {
	l := r.lanes[i]
	switch {
	case l.stage == ended && r.awaitedLocked():
		return l.since.Add(l.patience)
	case l.stage != idle:
		return time.Time{}
	}
	at = r.began
	for j, earlier := range r.lanes[:i] {
		if earlier.stage != runs || r.atOnce && i < r.first {
			continue
		}
		ahead := earlier.headStart
		if j < r.first && i >= r.first {
			ahead = earlier.patience
		}
		if t := earlier.since.Add(ahead); t.After(at) {
			at = t
		}
	}
	return at
}

// awaitedLocked reports whether all lanes have begun and one of them is waited for. It is called with r.mu held.
func (r *race) awaitedLocked() (awaited bool) {
	for _, l := range r.lanes {
		if l.stage == idle {
			return false
		}
		awaited = awaited || l.stage == runs
	}
	return awaited
}

// passLocked notes that hosts have had their head start before a lane, and have not answered. It is called with r.mu held.
func (r *race) passLocked(next *lane) {
	for _, l := range r.lanes {
		if l == next || r.atOnce {
			return
		}
		if l.stage == runs && !l.slow {
			l.slow = true
			r.paths.slower(l.host, 1)
		}
	}
}

// nobodyBetterLocked reports whether the second best connection has to do: all other hosts have failed, or have been silent for
// too long. It is called with r.mu held.
func (r *race) nobodyBetterLocked() bool {
	if len(r.seconds) == 0 || r.ctx.Err() != nil {
		return false
	}
	for _, l := range r.lanes {
		if l.stage == idle && !r.closedLocked() || l.stage == runs && !l.late {
			return false
		}
	}
	return true
}

// exhaustedLocked reports whether nobody can win any more. It reports true as well if what is left is silent and was given its
// time, while another host has said that it isn't what is wanted: the next dial finds out what has become of that. Hosts that are
// known to serve, and to be what is wanted, get all the time that there is. It is called with r.mu held.
func (r *race) exhaustedLocked() bool {
	silent, refused := false, false
	for _, l := range r.lanes {
		switch l.stage {
		case idle:
			if !r.closedLocked() {
				return false
			}
		case waits:
			return false
		case runs:
			if !l.late || l.trusted || r.closedLocked() {
				return false
			}
			silent = true
		}
		refused = refused || l.unfit
	}
	return refused || !silent
}

// trusted reports whether a host is known to serve, and to be what is wanted.
func trusted(s hosts.Status, wanted hosts.Wanted) bool {
	return s.State == hosts.Up && wanted.Fit(s.Role) == hosts.Fits
}
