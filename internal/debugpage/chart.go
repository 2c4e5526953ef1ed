package debugpage

import (
	"fmt"
	"strings"
	"time"

	"github.com/pgprod/pgprod/internal/activity"
)

const (
	span   = activity.Samples * activity.Interval // the time that the chart shows
	width  = 1000                                 // of the chart in its own units, which the page scales to the screen
	height = 100                                  // of the chart in its own units
)

// A chart shows the last five minutes: how many connections were in use, and on top of that how many callers waited. Busy,
// Edge and Waiting are paths of SVG; y grows downwards.
type chart struct {
	Busy    string // the area of connections in use
	Edge    string // the upper edge of that area
	Waiting string // the area of callers that waited
	LimitY  string // y of the pool's limit; "": it has none
	Ticks   []tick
	Text    string // what the chart shows, in words
	Empty   bool   // there are no samples
}

// A tick is a horizontal line in the chart, with a number of connections.
type tick struct {
	Y     string
	Value string
}

// newChart returns the chart of a pool's history.
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

// draw draws the areas as steps. A sample counts until the next one, but for two intervals at most: then nobody watched, and
// there is a gap.
func (c *chart) draw(samples []activity.Sample, now time.Time, scale func(int) string) {
	var busy, edge, waiting strings.Builder
	x := func(t time.Time) string { return number(width - float64(width*now.Sub(t))/float64(span)) }
	end := "" // where the sample before ends; if this one begins there, the edge goes on
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

// number is a number with at most one decimal.
func number(f float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", f), ".0") }

// round is the smallest round number from n on whose half is a whole number.
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

// inWords says what the chart shows, for people who can't see it.
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
