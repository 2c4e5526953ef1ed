package hosts

import (
	"cmp"
	"math/rand/v2"
	"slices"
)

// A Plan says which hosts a dial tries.
type Plan struct {
	// First are those to try, the best one first. If Seek is true it is all of them, at once.
	First []*Host
	// Rest are those to try if none of First will do: hosts whose role, when last heard of, was not the right one. They come
	// before the dial fails, since roles change.
	Rest []*Host
	// Seek says that no host is known that would do. All are asked at once, by one dial for all.
	Seek bool
}

// Plan returns what a dial that begins now tries: the hosts that will do, as far as is known, in the DSN's order, or at random if
// load_balance_hosts says so. Hosts that are Down are left out, unless no other would do.
func (b *Board) Plan() Plan {
	known := b.known()
	if len(known) == 1 {
		return Plan{First: b.hosts}
	}
	if b.opts.Random {
		rand.Shuffle(len(known), func(i, j int) { known[i], known[j] = known[j], known[i] })
	}
	slices.SortStableFunc(known, func(x, y knownHost) int { return cmp.Compare(y.fit, x.fit) })
	var p Plan
	for _, k := range known {
		switch {
		case k.State == Down:
		case k.fit == Unfit:
			p.Rest = append(p.Rest, k.host)
		default:
			p.First = append(p.First, k.host)
		}
	}
	if len(p.First) == 0 {
		p = Plan{Seek: true}
		for _, k := range known {
			p.First = append(p.First, k.host)
		}
	}
	return p
}

// PlanAnywhere returns what is tried for a connection to any kind of server: all hosts in the DSN's order, those that are Down last.
func (b *Board) PlanAnywhere() Plan {
	var p Plan
	for _, k := range b.known() {
		if k.State == Down {
			p.Rest = append(p.Rest, k.host)
		} else {
			p.First = append(p.First, k.host)
		}
	}
	return p
}

// A knownHost is a host with what is known of it at one time.
type knownHost struct {
	Status
	host *Host
	fit  Fit
}

// known returns all hosts with what is known of them, in the DSN's order.
func (b *Board) known() (all []knownHost) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range b.hosts {
		all = append(all, knownHost{h.status, h, b.opts.Wanted.Fit(h.status.Role)})
	}
	return all
}

// seeks reports whether no host is known that would do, so that a dial asks all of them.
func (b *Board) seeks() bool {
	return !slices.ContainsFunc(b.known(), func(k knownHost) bool { return k.State != Down && k.fit != Unfit })
}
