package activity

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// A Node is a session in a tree of who blocks whom: who it is, and who waits for it.
type Node struct {
	Blocker
	Database string        `json:"database,omitempty"`  // "": not known
	Text     string        `json:"statement,omitempty"` // the statement that runs, or the last one, without its literals; "": not known
	Runs     time.Duration `json:"runs_ns,omitempty"`   // how long the statement has run; 0: none does, or that is not known
	TraceID  string        `json:"trace_id,omitempty"`  // of the statement's span, if that is sampled and this pool's own
	SeenAt   time.Time     `json:"seen_at"`             // when the server said that it blocks others, or waits

	ByText   bool `json:"by_text,omitempty"`  // seen behind a pooler: whether it is this pool's own isn't known
	Others   int  `json:"others,omitempty"`   // how many sessions block it besides the one above it
	Itself   bool `json:"itself,omitempty"`   // as Cause.Itself
	Deadlock bool `json:"deadlock,omitempty"` // it is on top, and waits for one of those below it

	Below []*Node `json:"blocks,omitempty"` // who waits for it
}

// Blocks returns how many sessions wait for n, for those that wait for it, and so on.
func (n *Node) Blocks() (all int) {
	for _, below := range n.Below {
		all += 1 + below.Blocks()
	}
	return all
}

// Walk calls f for each node of the trees, from top to bottom, with how deep it is below the top.
func Walk(trees []*Node, f func(n *Node, depth int)) { walk(trees, 0, f) }

func walk(nodes []*Node, depth int, f func(*Node, int)) {
	for _, n := range nodes {
		f(n, depth)
		walk(n.Below, depth+1, f)
	}
}

// Arrange returns the trees of those that block others, the one on top that blocks the most first. by says who blocks a
// node, if anybody does. In a deadlock the first of nodes is on top. Nodes that neither block nor wait are left out. It
// sets Below and Deadlock of the nodes.
func Arrange(nodes []*Node, by map[*Node]*Node) (tops []*Node) {
	for _, n := range nodes {
		if by[n] != nil && waitsFor(by, by[n], n, len(nodes)) {
			n.Deadlock = true
			delete(by, n)
		}
		if above := by[n]; above != nil {
			above.Below = append(above.Below, n)
		}
	}
	for _, n := range nodes {
		if by[n] == nil && len(n.Below) > 0 {
			tops = append(tops, n)
		}
	}
	slices.SortStableFunc(tops, func(a, b *Node) int {
		return cmp.Or(cmp.Compare(b.Blocks(), a.Blocks()), cmp.Compare(b.InTransaction, a.InTransaction))
	})
	return tops
}

// waitsFor reports whether n waits for another, by at most this many steps.
func waitsFor(by map[*Node]*Node, n, other *Node, most int) bool {
	for ; n != nil && most >= 0; most-- {
		if n == other {
			return true
		}
		n = by[n]
	}
	return false
}

// TreeOf returns who blocks whom, by what was found of the statements of holders: the root blockers, and below each of them
// who waits for it. Of what was found of one session at several times, the latest counts.
func TreeOf(holders []Holder) []*Node {
	f := forest{named: map[string]*Node{}, by: map[*Node]*Node{}}
	for i := range holders {
		f.add(&holders[i])
	}
	return Arrange(f.nodes, f.by)
}

// A forest is what TreeOf makes of the holders.
type forest struct {
	nodes []*Node
	named map[string]*Node // by server and pid
	by    map[*Node]*Node  // who blocks a node
}

// add adds a holder that waits for others, and these.
func (f *forest) add(h *Holder) {
	c := h.Cause
	if c == nil || len(c.Chain) == 0 {
		return
	}
	name := h.Server + " " + strconv.FormatUint(uint64(h.PID), 10)
	if c.ByText { // a pooler has made up the pid, which may be that of any session of the server's
		name = "pooled " + name
	}
	at := f.at(name)
	f.meet(at, h.blocker(), c.At)
	at.Text, at.Runs, at.TraceID, at.Itself, at.Others = h.Statement, h.Runs, h.TraceID, c.Itself, c.Others
	f.blocked(at, f.chain(h.Server, c), c.At)
}

// chain adds the sessions of a cause's chain, and returns the first.
func (f *forest) chain(server string, c *Cause) (above *Node) {
	for i := len(c.Chain) - 1; i >= 0; i-- {
		b := c.Chain[i]
		at := f.at(server + " " + strconv.FormatUint(uint64(b.PID), 10) + b.Prepared)
		f.meet(at, b, c.At)
		at.ByText = c.ByText
		if above != nil || b.Wait.Type != "Lock" { // in a deadlock the chain ends with one that waits
			f.blocked(at, above, c.At)
		}
		above = at
	}
	return above
}

// at returns the node with a name, which it makes if there is none.
func (f *forest) at(name string) *Node {
	n := f.named[name]
	if n == nil {
		n = &Node{}
		f.named[name] = n
		f.nodes = append(f.nodes, n)
	}
	return n
}

// meet notes what was known of a session at a time, unless something later is known.
func (f *forest) meet(n *Node, b Blocker, at time.Time) {
	if at.Before(n.SeenAt) {
		return
	}
	b.Kind, b.Application, b.User = cmp.Or(b.Kind, n.Kind), cmp.Or(b.Application, n.Application), cmp.Or(b.User, n.User)
	b.InTransaction, b.Own = cmp.Or(b.InTransaction, n.InTransaction), cmp.Or(b.Own, n.Own)
	n.Blocker = b
	if n.Own != nil && n.Text == "" {
		n.Text = n.Own.Summary
	}
}

// blocked notes who blocked a session at a time, unless something later is known.
func (f *forest) blocked(n, above *Node, at time.Time) {
	if at.Before(n.SeenAt) {
		return
	}
	n.SeenAt = at
	if above != nil {
		f.by[n] = above
	} else {
		delete(f.by, n)
	}
}

// blocker returns a holder whose statement was found to wait as a session that may block others.
func (h *Holder) blocker() Blocker {
	return Blocker{
		PID: h.PID, State: "active", InState: h.Runs, Wait: h.Cause.Wait,
		Own: &Own{Held: h.Held, Running: h.Running, Summary: h.Statement, Stack: h.Stack},
	}
}
