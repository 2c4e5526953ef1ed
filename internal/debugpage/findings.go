package debugpage

import (
	"fmt"
	"slices"
	"time"

	"github.com/pgprod/pgprod/internal/activity"
)

// A finding is something that the person on call should look at.
type finding struct {
	Grade string `json:"grade"`           // bad or warn
	Label string `json:"label,omitempty"` // shown before the text; "": none
	Text  string `json:"text"`
	Part  string `json:"part,omitempty"` // the part of the page that has the details; "": none
}

// mostBlockers is how many root blockers are findings.
const mostBlockers = 3

// lately is how old an error may be to be a finding.
const lately = time.Minute

// findings returns the findings about a pool, the most urgent first.
func findings(p *Pool) []finding {
	var all []finding
	if p.Health.Status == activity.Unhealthy {
		all = append(all, finding{"bad", "", "The database is not usable, as said above. Who needs a new connection waits for pool_timeout and fails.", ""})
	}
	s, st := &p.Snapshot, &p.Snapshot.Status
	if st.Waiting > 0 {
		all = append(all, finding{"bad", "", waitingInWords(s), "waiting"})
	}
	if n := timeoutsLately(s.History); n > 0 {
		all = append(all, finding{"bad", "", plural(n, "caller") + " got no connection in time, in the last five minutes.", "waiting"})
	}
	all = append(all, blocking(s.Blocking)...)
	if n, longest := leaks(s.Holders); n > 0 {
		is := "has been"
		if n > 1 {
			is = "have been"
		}
		text := fmt.Sprintf("%s %s held for suspiciously long, up to %s: leaked?", plural(n, "connection"), is, duration(longest))
		all = append(all, finding{"bad", "", text, "holders"})
	}
	all = append(all, wrongHosts(s)...)
	all = append(all, lastErrors(p)...)
	if n := st.CommitsUnknown; n > 0 {
		text := "It is not known whether " + plural(int(n), "transaction") + " took place, since the pool was opened: look at the data."
		all = append(all, finding{"warn", "", text, ""})
	}
	all = append(all, repeated(s.Repeated)...)
	for _, w := range first(s.Warnings, mostRows).Rows {
		all = append(all, finding{"warn", "Preflight", activity.Shorten(w, mostText), ""})
	}
	if len(all) == 0 && p.Health.Status == activity.Degraded { // no other finding says why
		all = append(all, finding{"warn", "", "The database answers, but not all is well, as said above.", ""})
	}
	return all
}

// blocking returns a finding for each of the worst root blockers.
func blocking(tops []*activity.Node) (all []finding) {
	for _, n := range first(tops, mostBlockers).Rows {
		text := plural(n.Blocks(), "session")
		if n.Blocks() == 1 {
			text += " waits for "
		} else {
			text += " wait for "
		}
		text += n.Name()
		for _, fact := range []string{n.Who(), n.Does(), n.HeldBy()} {
			if fact != "" {
				text += ", " + fact
			}
		}
		all = append(all, finding{"bad", "", text + ".", "blocking"})
	}
	return all
}

// lastErrors returns the last error of each kind of the last minute, so that frequent ones don't hide others. Errors that an
// application has to expect are left out, and what a check found, which is at the head of the page. A statement that has
// failed is only a warning, and comes last.
func lastErrors(p *Pool) (all []finding) {
	s := &p.Snapshot
	var statements []finding
	isRecent := func(e activity.Event) bool { return s.At.Sub(e.At) < lately && !e.Warning }
	seen := map[string]bool{"health": true}
	// The error of a caller that got no connection has the last failure to connect in it.
	seen["connect"] = slices.ContainsFunc(s.Errors, func(e activity.Event) bool {
		return e.Kind == "no connection" && isRecent(e)
	})
	for _, e := range s.Errors {
		if !isRecent(e) || seen[e.Kind] {
			continue
		}
		seen[e.Kind] = true
		text := "Last error, " + ago(s.At, e.At) + ": " + e.Kind + ": " + activity.Shorten(bare(e.Text, p.Name), mostText)
		if e.Kind == "statement" {
			statements = append(statements, finding{"warn", "", text, "errors"})
		} else {
			all = append(all, finding{"bad", "", text, "errors"})
		}
	}
	return append(all, statements...)
}

// mostRepeated is how many statements that repeat are among the findings. All of them are in the JSON.
const mostRepeated = 10

// repeated returns a finding for each statement that ran many times in a row.
func repeated(rows []activity.Repetition) (all []finding) {
	shown := first(rows, mostRepeated)
	for _, r := range shown.Rows {
		label := "N+1"
		if r.Writes() {
			label = "One by one"
		}
		text := fmt.Sprintf("%s ran %s times in a row under one parent", activity.Shorten(r.Summary, mostText), count(r.Times))
		if r.Found > 1 {
			text += fmt.Sprintf(" (found %s times so far)", count(r.Found))
		}
		all = append(all, finding{"warn", label, text + ", called by " + r.Caller + ". Better: " + r.Instead() + ".", ""})
	}
	if shown.More > 0 {
		all = append(all, finding{"warn", "", plural(shown.More, "other statement") + " ran in a row as well.", ""})
	}
	return all
}

// waitingInWords says how many callers wait, and since when there is a queue.
func waitingInWords(s *activity.Snapshot) string {
	text := plural(s.Status.Waiting, "caller")
	if s.Status.Waiting == 1 {
		text += " waits for a connection"
	} else {
		text += " wait for a connection"
	}
	if since, ok := waitingSince(s.History); ok {
		return text + ". There has been a queue for " + duration(s.At.Sub(since).Truncate(time.Second)) + "."
	}
	return text + "."
}

// waitingSince returns the time of the first sample since which callers have been waiting without a break, and whether any
// are.
func waitingSince(history []activity.Sample) (since time.Time, ok bool) {
	for i := len(history) - 1; i >= 0 && history[i].Waiting > 0; i-- {
		since, ok = history[i].At, true
	}
	return since, ok
}

// timeoutsLately is how many callers got no connection in time, between the first and the last sample.
func timeoutsLately(history []activity.Sample) int64 {
	if len(history) == 0 {
		return 0
	}
	return history[len(history)-1].Timeouts - history[0].Timeouts
}

// leaks returns how many connections are held for too long, and for how long the longest.
func leaks(holders []activity.Holder) (n int, longest time.Duration) {
	for _, h := range holders {
		if h.Leak {
			n, longest = n+1, max(longest, h.Held)
		}
	}
	return n, longest
}
