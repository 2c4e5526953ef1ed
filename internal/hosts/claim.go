package hosts

import (
	"errors"
	"time"
)

// ErrDeposed is why a server isn't used any more that takes itself for the primary.
var ErrDeposed = errors.New("another host has been promoted in its place")

// A Claim is what a server says of itself that takes itself for the primary. A promotion begins a new timeline, whose number is
// higher than those before. Of two servers of one cluster that both claim to be its primary, the one with the higher timeline was
// promoted, and the other one was not told: what is written to it is lost.
type Claim struct {
	Cluster  string // the system identifier; "": nothing is known
	Timeline uint32
}

// deposes reports whether the server of claim c has been promoted in place of another one's.
func (c Claim) deposes(other Claim) bool {
	return c.Cluster != "" && c.Cluster == other.Cluster && c.Timeline > other.Timeline
}

// claimLasts is for how long the claim of a host counts that is Down: a cluster may have been restored from a backup, on an
// earlier timeline, in place of one that is gone for good.
const claimLasts = 10 * time.Minute

// Claims notes the claim of a host, by which others may be deposed.
func (h *Host) Claims(c Claim) {
	h.update(func(*Status) { h.claim = c })
	for _, other := range h.board.hosts {
		if other != h {
			other.change(func(*Status) {})
		}
	}
}

// Contested reports whether several hosts claim to be the primary where one is wanted, so that they are to be asked for their
// claims. Those that are known to be deposed count.
func (b *Board) Contested() bool {
	if !b.opts.Wanted.OnlyPrimaries() {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, h := range b.hosts {
		if h.status.State != Down && (h.status.Role == Primary || h.status.Role == Deposed) {
			n++
		}
	}
	return n > 1
}

// As returns the role of a host whose server has just said one: a server that takes itself for the primary may be deposed.
func (h *Host) As(said Role) Role {
	h.board.mu.Lock()
	defer h.board.mu.Unlock()
	return h.asLocked(said)
}

// asLocked is As with Board.mu held. A server that has become a standby has no claim any more.
func (h *Host) asLocked(said Role) Role {
	if said == Standby {
		h.claim = Claim{}
	}
	if said != Primary && said != Deposed {
		return said
	}
	for _, other := range h.board.hosts {
		gone := other.status.State == Down && time.Since(other.status.Since) > claimLasts
		if !gone && other.claim.deposes(h.claim) {
			return Deposed
		}
	}
	return Primary
}
