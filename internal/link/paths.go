package link

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/pgprod/pgprod/internal/hosts"
)

// paths is what a dialer remembers of the ways to its hosts beyond what the Board knows: it lasts for moments, and only changes the
// order in which things are tried. It is safe for concurrent use.
type paths struct {
	mu     sync.Mutex          // guards what follows; nothing else is locked under it
	slow   map[*hosts.Host]int // how many dials are waiting for a host that has had its head start without an answer
	bad    map[path]time.Time  // when an address has failed, or has had its head start without an answer
	direct map[path]bool       // addresses, as they were dialled, behind which there is a server and no pooler
}

// A path is one address of a host.
type path struct {
	host    *hosts.Host
	address string
}

const (
	// badFor is how long an address that has failed comes last.
	badFor = time.Minute
	// mostPaths is how many addresses are remembered at most. A name has a handful.
	mostPaths = 256
)

// slower adds n to the dials that wait for a slow host.
func (p *paths) slower(h *hosts.Host, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.slow == nil {
		p.slow = map[*hosts.Host]int{}
	}
	if p.slow[h] += n; p.slow[h] <= 0 {
		delete(p.slow, h)
	}
}

// slowLast returns hosts in the same order, but those that others are just waiting for come after those that will do as well.
func (p *paths) slowLast(all []*hosts.Host, wanted hosts.Wanted) []*hosts.Host {
	p.mu.Lock()
	slow := map[*hosts.Host]int{}
	for h := range p.slow {
		slow[h] = 1
	}
	p.mu.Unlock()
	if len(slow) == 0 || len(all) < 2 {
		return all
	}
	fit := map[*hosts.Host]hosts.Fit{}
	for _, h := range all {
		fit[h] = wanted.Fit(h.Status().Role)
	}
	return slices.SortedStableFunc(slices.Values(all), func(a, b *hosts.Host) int {
		return cmp.Or(cmp.Compare(fit[b], fit[a]), cmp.Compare(slow[a], slow[b]))
	})
}

// failed notes that an address has failed, or is slow.
func (p *paths) failed(h *hosts.Host, address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bad == nil || len(p.bad) >= mostPaths {
		p.bad = map[path]time.Time{}
	}
	p.bad[path{h, address}] = time.Now()
}

// serves notes that an address serves.
func (p *paths) serves(h *hosts.Host, address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.bad, path{h, address})
}

// sort returns the addresses of a host: those that have failed lately last. One that has failed some time ago comes first again,
// but without a head start, so that finding out costs no dial anything.
func (p *paths) sort(h *hosts.Host, found []string, headStart time.Duration) []address {
	var doubtful, good, bad []address
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, text := range found {
		switch at, has := p.bad[path{h, text}]; {
		case !has:
			good = append(good, address{text, headStart})
		case time.Since(at) < badFor:
			bad = append(bad, address{text, headStart})
		default:
			p.bad[path{h, text}] = time.Now() // this dial finds out, others need not
			doubtful = append(doubtful, address{text, 0})
		}
	}
	return slices.Concat(doubtful, good, bad)
}

// isNowDirect notes whether there is no pooler behind an address, as far as can be seen.
func (p *paths) isNowDirect(h *hosts.Host, address string, direct bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.direct == nil || len(p.direct) >= mostPaths {
		p.direct = map[path]bool{}
	}
	p.direct[path{h, address}] = direct
}

// isDirect reports whether it was seen that there is no pooler behind an address.
func (p *paths) isDirect(h *hosts.Host, address string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.direct[path{h, address}]
}

// forget forgets what is behind the addresses of a host that has failed: something else may come back.
func (p *paths) forget(h *hosts.Host) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.direct, func(at path, _ bool) bool { return at.host == h })
}
