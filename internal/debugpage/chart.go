package debugpage

import (
	"fmt"
	"strings"
	"time"

	"github.com/pgprod/pgprod/internal/activity"
)

// The plot's own units: span by height, which the page stretches to the width that there is.
const (
	span   = activity.Samples * activity.Interval
	width  = 1000
	height = 100
)

// chart is the last five minutes: who had a connection, and on top of them who waited for one.
type chart struct {
	Busy, Waiting string // areas
	Edge          string // the upper edge of Busy
	LimitY        string // where the pool is full; "" if it has no limit
	Ticks         []tick
	Text          string // the same in words
	Empty         bool
}

// tick is a line across the chart at a number of connections.
type tick struct {
	Y     string
	Value string
}

func newChart(s *activity.Snapshot) chart {
	limit := capacity(&s.Status)
	var c chart
	since := s.At.Add(-span)
	samples := s.History
	for len(samples) > 0 && samples[0].At.Before(since) {
		samples = samples[1:]
	}
	if len(samples) == 0 {
		return chart{Empty: true}
	}
	top := limit
	for _, x := range samples {
		top = max(top, x.CheckedOut+x.Waiting)
	}
	top = round(top)
	scale := func(n int) string { return number(height - float64(height*n)/float64(top)) }
	if limit > 0 {
		c.LimitY = scale(limit)
	}
	for _, n := range []int{0, top / 2, top} {
		c.Ticks = append(c.Ticks, tick{scale(n), count(n)})
	}
	c.draw(samples, s.At, scale)
	c.Text = inWords(samples, limit)
	return c
}

// draw makes steps: a sample holds until the next, or for two intervals if there was none, when nobody watched.
func (c *chart) draw(samples []activity.Sample, now time.Time, scale func(int) string) {
	var busy, edge, waiting strings.Builder
	x := func(t time.Time) string { return number(width - float64(width*now.Sub(t))/float64(span)) }
	end := "" // of the sample before
	for i, s := range samples {
		until := s.At.Add(2 * activity.Interval)
		if i+1 < len(samples) && samples[i+1].At.Before(until) {
			until = samples[i+1].At
		}
		if until.After(now) {
			until = now
		}
		from, to, y := x(s.At), x(until), scale(s.CheckedOut)
		fmt.Fprintf(&busy, "M%s %dV%sH%sV%d", from, height, y, to, height)
		step := "M%s %sH%s"
		if from == end {
			step = "H%sV%sH%s"
		}
		fmt.Fprintf(&edge, step, from, y, to)
		end = to
		if s.Waiting > 0 {
			fmt.Fprintf(&waiting, "M%s %sV%sH%sV%s", from, y, scale(s.CheckedOut+s.Waiting), to, y)
		}
	}
	c.Busy, c.Edge, c.Waiting = busy.String(), edge.String(), waiting.String()
}

func number(f float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", f), ".0") }

// round is the next round number that has a whole half.
func round(n int) int {
	for _, m := range []int{2, 4, 6, 8, 10} {
		if n <= m {
			return m
		}
	}
	for ten := 10; ; ten *= 10 {
		for _, m := range []int{2, 3, 4, 5, 6, 8, 10} {
			if n <= m*ten {
				return m * ten
			}
		}
	}
}

// inWords is for who doesn't see the chart.
func inWords(samples []activity.Sample, limit int) string {
	most := activity.Sample{}
	for _, s := range samples {
		most.CheckedOut, most.Waiting = max(most.CheckedOut, s.CheckedOut), max(most.Waiting, s.Waiting)
	}
	last := samples[len(samples)-1]
	of := ""
	if limit > 0 {
		of = " of " + count(limit)
	}
	return fmt.Sprintf("Of the last five minutes: at most %s%s in use and %s waiting; now %s in use and %s waiting.",
		plural(most.CheckedOut, "connection"), of, plural(most.Waiting, "caller"), count(last.CheckedOut), count(last.Waiting))
}
