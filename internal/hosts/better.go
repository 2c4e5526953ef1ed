package hosts

import "time"

// A Proof says what has to be known of a host before connections move to it: that it answered lately, and how long it must have
// been Up. A host that goes and comes every few seconds gets none back.
type Proof struct{ Within, UpFor time.Duration }

// Better reports whether connections to a host should move to another one: that is known to be what is wanted and the host isn't,
// or both are and it comes earlier in the DSN's order. Where only primaries are wanted the order means nothing, since at most one
// host is what is wanted; nor does it if load_balance_hosts=random.
func (b *Board) Better(than *Host, p Proof) bool {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	own := b.opts.Wanted.Fit(than.status.Role)
	for _, h := range b.hosts {
		if h == than || !h.status.proven(p, now) {
			continue
		}
		switch fit := b.opts.Wanted.Fit(h.status.Role); {
		case fit == Maybe || own == Maybe: // nothing is known
		case fit > own, fit == own && fit != Unfit && h.index < than.index && b.ordered():
			return true
		}
	}
	return false
}

// ordered reports whether of hosts that will do the first is to be used.
func (b *Board) ordered() bool { return !b.opts.Random && !b.opts.Wanted.OnlyPrimaries() }

// proven reports whether connections may move to the host.
func (s Status) proven(p Proof, now time.Time) bool {
	return s.State == Up && now.Sub(s.Asked) <= p.Within && now.Sub(s.Since) >= p.UpFor
}
