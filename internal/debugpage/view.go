package debugpage

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/pgprod/pgprod/internal/activity"
)

// Limits of what the page shows, which is loaded every two seconds, perhaps by a phone.
const (
	mostRows   = 50  // of each table
	mostText   = 500 // bytes of one text
	mostFrames = 24  // of one stack
)

// A view is what pool.html shows.
type view struct {
	Pool
	N          int // counts the pools from 1, for unique ids of the parts
	Order      order
	Chart      chart
	Hosts      top[host]
	Blocking   top[session]
	Slow       top[slow]
	Holders    top[holder]
	Statements top[statement]
	Errors     top[event]
	Events     top[event]
	Closed     []closed
	Settings   []activity.Setting
	MeanWait   time.Duration
}

// A holder is a caller that has a connection, with the first frames of its stack.
type holder struct {
	activity.Holder
	Frames top[string]
}

// An event is an event with its times as text.
type event struct {
	activity.Event
	Clock, Age string // of the last time
	Since      string // the time of day when it happened first
}

// closed says how many connections were closed for a reason.
type closed struct {
	Reason, Means string
	Count         int64
}

// newView returns the view of the n-th pool, with statements in the order o.
func newView(n int, p Pool, o order) view {
	s := &p.Snapshot
	v := view{
		Pool: p, N: n, Order: o, Chart: newChart(s), Statements: sorted(s.Statements, o),
		Errors: events(s.Errors, &p), Events: events(s.Events, &p), Closed: closings(s.Status.Closed),
		Settings: slices.SortedStableFunc(slices.Values(s.Settings), changedFirst),
		Hosts:    hosts(s), Blocking: blocks(s), Slow: slowOnes(s),
		Holders: top[holder]{More: max(0, len(s.Holders)-mostRows)},
	}
	for _, h := range first(s.Holders, mostRows).Rows {
		v.Holders.Rows = append(v.Holders.Rows, holder{h, first(h.Stack, mostFrames)})
	}
	if st := s.Status; st.Waits > 0 {
		v.MeanWait = st.WaitTime / time.Duration(st.Waits)
	}
	return v
}

// changedFirst compares two settings: those that are not defaults come before the defaults.
func changedFirst(a, b activity.Setting) int {
	return boolean(a.Source == "default") - boolean(b.Source == "default")
}

// boolean is 1 for true.
func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

// events returns the first events, with their times as text.
func events(all []activity.Event, p *Pool) top[event] {
	now, shown := p.Snapshot.At, first(all, mostRows)
	rows := make([]event, len(shown.Rows))
	for i, e := range shown.Rows {
		e.Text = bare(e.Text, p.Name)
		rows[i] = event{e, clock(now, e.At), ago(now, e.At), clock(now, e.First)}
	}
	return top[event]{rows, shown.More}
}

// bare is an error's text without the name of the pool, which is at the head of the page already. So there is more room for
// the cause, which is at the end of the text.
func bare(text, pool string) string { return strings.TrimPrefix(text, "pgprod: pool "+pool+": ") }

// Reason is the reason of the health.
func (v view) Reason() string { return bare(v.Health.Reason, v.Name) }

// clock is the time of day of t, with the date if that isn't the date of now.
func clock(now, t time.Time) string {
	if t = t.In(now.Location()); now.YearDay() != t.YearDay() || now.Year() != t.Year() {
		return t.Format("2 Jan 15:04:05")
	}
	return t.Format("15:04:05")
}

// meanings explain the reasons for which connections are closed.
var meanings = map[string]string{
	"lifetime":    "older than pool_recycle",
	"credentials": "its credentials are about to end",
	"idle":        "idle for longer than pool_idle_timeout",
	"overflow":    "beyond pool_size when given back",
	"invalid":     "found dead, or as old as one that was",
	"dirty":       "left with a changed session or an open transaction",
	"closed":      "the pool was closed",
}

// closings lists the reasons with their counts, the most frequent first.
func closings(by map[string]int64) []closed {
	var all []closed
	for _, reason := range slices.Sorted(maps.Keys(by)) {
		if by[reason] > 0 {
			all = append(all, closed{reason, meanings[reason], by[reason]})
		}
	}
	slices.SortStableFunc(all, func(a, b closed) int { return cmp.Compare(b.Count, a.Count) })
	return all[:min(len(all), mostRows)]
}

// BegunAgain is how many transactions InTx has begun again.
func (v view) BegunAgain() (n int64) {
	for _, count := range v.Snapshot.BegunAgain {
		n += count
	}
	return n
}

// MostlyAfter is the reason for which most transactions were begun again.
func (v view) MostlyAfter() (reason string) {
	by := v.Snapshot.BegunAgain
	for _, why := range slices.Sorted(maps.Keys(by)) {
		if by[why] > by[reason] {
			reason = why
		}
	}
	return reason
}

// capacity is the most connections that a pool makes, or 0 if it has no limit.
func capacity(s *activity.Status) int {
	if s.MaxOverflow < 0 || s.PoolSize > math.MaxInt32-s.MaxOverflow {
		return 0
	}
	return s.PoolSize + s.MaxOverflow
}

// Capacity is capacity for the template.
func (v view) Capacity() int { return capacity(&v.Snapshot.Status) }

// Bar is how wide the bar of the utilisation is, of 100.
func (v view) Bar() string { return number(100 * min(1, max(0, v.Snapshot.Status.Utilisation))) }

// Orders are the columns of the statements' table.
func (v view) Orders() []order { return orders }

// Changed is the number of settings that somebody has set.
func (v view) Changed() (n int) {
	for _, s := range v.Settings {
		n += boolean(changed(s.Source))
	}
	return n
}

// changed reports whether a setting with this source has a value that somebody has set in place of a default. Rows that say
// where the pool connects to have no default, and don't count.
func changed(source string) bool { return source != "default" && source != "connection" }

// Leaks is the number of connections held for too long.
func (v view) Leaks() int {
	n, _ := leaks(v.Snapshot.Holders)
	return n
}

// Grade is the health as one of the page's four grades: ok, warn, bad, unknown.
func (v view) Grade() string {
	switch v.Health.Status {
	case activity.Healthy:
		return "ok"
	case activity.Degraded:
		return "warn"
	case activity.Unhealthy:
		return "bad"
	}
	return "unknown"
}

// Word is the health as a heading.
func (v view) Word() string {
	switch v.Health.Status {
	case activity.Healthy:
		return "Healthy"
	case activity.Degraded:
		return "Degraded"
	case activity.Unhealthy:
		return "Unhealthy"
	}
	return "Unknown"
}

func asDuration(n int64) time.Duration { return time.Duration(n) }
