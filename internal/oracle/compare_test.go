package oracle

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// An oracle runs programs on both drivers.
type oracle struct {
	theirs, ours *side
	met          map[string]int // how often each row of the table of differences was met
	seen         map[string]int // how often each word of the vocabulary was used, and had an effect
}

func newOracle(t testing.TB) *oracle {
	return &oracle{
		theirs: newSide(t, side{name: "pgx", open: openPgx, count: countPgx, sweep: sweepPgx}),
		ours:   newSide(t, side{name: "pgprod", open: openPgprod, count: countPgprod}),
		met:    map[string]int{}, seen: map[string]int{},
	}
}

// A pair is a step, and what both drivers made of it.
type pair struct {
	step         step
	theirs, ours *world
	lease        [2]*lease // what the step was done on, theirs and ours
	saw          [2]*observation
	over         bool // the databases are no longer the same: the program can't go on
	stated       bool // pgx was not asked: its answer is the right one, see stated
}

// both are the observations, pgx's first.
func (p *pair) both() (theirs, ours *observation) { return p.saw[0], p.saw[1] }

// same reports whether both saw the same.
func (p *pair) same() bool { return p.saw[0].String() == p.saw[1].String() }

// retire closes on both sides what shares the step's connection: its state is no longer the same.
func (p *pair) retire() {
	for i, w := range []*world{p.theirs, p.ours} {
		w.retire(p.lease[i])
		if in := p.saw[i].find("in use"); in != nil {
			in.text = fmt.Sprint(w.db.Stats().InUse)
		}
	}
}

// limit is how long a program may take, which takes milliseconds. One that takes longer hangs, however slow the machine is.
const limit = 3 * time.Minute

// run runs a program on both and returns where they differ, "" if they don't.
func (o *oracle) run(p program) (difference string) {
	var at atomic.Int64
	watchdog := time.AfterFunc(limit, func() { panic(fmt.Sprintf("step %d of this program hangs:\n%v", at.Load(), p)) })
	defer watchdog.Stop()
	theirs, ours := o.enter(p)
	defer func() {
		if v := recover(); v != nil { // the test's own, or in pgx where nobody can be asked to expect it
			panic(fmt.Sprintf("%v, in\n%v\n%s", v, p, debug.Stack()))
		}
	}()
	defer func() {
		theirs.leave()
		ours.leave()
		if difference != "" {
			theirs.forget()
			ours.forget()
		}
	}()
	var transcript strings.Builder
	for i, s := range p.steps {
		at.Store(int64(i + 1))
		pair := o.step(s, theirs, ours)
		same := o.same(pair)
		if pair.over {
			return ""
		}
		fmt.Fprintf(&transcript, "%3d  %v\n%s", i+1, s, pair.sideBySide())
		if !same {
			return transcript.String()
		}
	}
	if last := o.end(theirs, ours); last != nil {
		return transcript.String() + "     in the end\n" + last.sideBySide()
	}
	return ""
}

// end ends a program on both. It returns what differs, nil if nothing does.
func (o *oracle) end(theirs, ours *world) *pair {
	theirs.leave()
	ours.leave()
	p := &pair{step: nothing{}, theirs: theirs, ours: ours, saw: [2]*observation{{}, {}}}
	if !o.same(p) { // to whom comes next: a transaction that was left open would hold its locks until then
		return p
	}
	for i, w := range []*world{theirs, ours} {
		for _, line := range w.side.finalState() {
			p.saw[i].note("committed", "%s", strings.Join(strings.Fields(line), " "))
		}
		p.saw[i].note("in use", "%d", w.db.Stats().InUse)
	}
	if !p.same() {
		return p
	}
	return nil
}

func (o *oracle) enter(p program) (theirs, ours *world) {
	var wg sync.WaitGroup
	wg.Go(func() { theirs = o.theirs.enter(p) })
	ours = o.ours.enter(p)
	wg.Wait()
	return theirs, ours
}

// step does a step on both.
func (o *oracle) step(s step, theirs, ours *world) *pair {
	p := &pair{step: s, theirs: theirs, ours: ours}
	for i, w := range []*world{theirs, ours} {
		p.lease[i] = w.leaseOf(s)
	}
	if st, ok := s.(stated); ok && !taken(s, theirs) && st.states(theirs) {
		p.stated = true
		p.saw[0] = theirs.observe(answer{st})
	} else {
		p.saw[0] = theirs.observe(s)
	}
	p.saw[1] = ours.observe(s)
	return p
}

// observe does a step. A panic is something that a program sees, too.
func (w *world) observe(s step) (o *observation) {
	o = new(observation)
	defer func() {
		if v := recover(); v != nil {
			if _, ok := v.(runtime.Error); ok {
				o.note("stack", "%s", debug.Stack())
			}
			o.note("panic", "%v", v)
		}
		if !w.closed {
			o.note("in use", "%d", w.db.Stats().InUse)
		}
	}()
	if taken(s, w) {
		o.skip("what it opens is open, or there is nothing to learn")
		return o
	}
	l := w.leaseOf(s)
	s.do(w, o)
	if o.arrived(s) {
		for _, x := range w.tx {
			if x != nil && l != nil && x.lease == l {
				x.sent = true
			}
		}
	}
	return o
}

// arrived reports whether a step was a statement that the server has certainly heard of: it has no error, or the server's.
func (o *observation) arrived(s step) bool {
	switch s.(type) {
	case exec, query, queryRow:
		first := o.facts[0] // its error, or that it was skipped
		return first.name != "skipped" && (first.err == nil || sqlState(first.err) != "")
	}
	return false
}

// same compares what both saw, after each row of the table of differences has taken out what it explains. Then it has the
// next borrowers look, if something may have been left behind.
func (o *oracle) same(p *pair) bool {
	o.count(p)
	for _, d := range differences {
		if p.same() {
			break
		}
		if d.excuses(p) {
			o.met[d.name]++
		}
	}
	if !p.same() {
		return false
	}
	return o.lookAsNextBorrower(p)
}

// count notes which word of the vocabulary was used.
func (o *oracle) count(p *pair) {
	word := strings.TrimPrefix(fmt.Sprintf("%T", p.step), "oracle.")
	theirs, _ := p.both()
	if theirs.find("skipped") != nil {
		o.seen[word+" (nothing to do)"]++
		return
	}
	o.seen[word]++
	if at, ok := p.step.(placed); ok {
		o.seen[word+" on "+at.where().kind]++
	}
	if err := theirs.failure(); err != nil {
		o.seen["SQLSTATE "+sqlState(err)]++
	}
}

// nothing is the step in which only the end of a program is looked at.
type nothing struct{}

func (nothing) do(*world, *observation) {}
func (nothing) String() string          { return "the end" }

// sideBySide is what both saw: up to where it differs once, then what only one of them saw.
func (p *pair) sideBySide() string {
	var b strings.Builder
	theirs, ours := p.saw[0].lines(), p.saw[1].lines()
	for len(theirs) > 0 && len(ours) > 0 && theirs[0] == ours[0] {
		if p.step != (nothing{}) {
			fmt.Fprintf(&b, "            %s\n", theirs[0])
		}
		theirs, ours = theirs[1:], ours[1:]
	}
	only := func(name string, lines, others []string) {
		for _, line := range lines {
			if !slices.Contains(others, line) {
				fmt.Fprintf(&b, "     %-6s %s\n", name, line)
			}
		}
	}
	only("pgx", theirs, ours)
	only("pgprod", ours, theirs)
	return b.String()
}
