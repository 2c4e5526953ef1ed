package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pgprod/pgprod"
)

const (
	chartLeft   = 13 // columns for names
	chartRight  = 15 // columns for figures
	chartHeight = 2  // lines for each series
)

// columns is how many columns of a screen of this width are left for the bars of a chart.
func columns(width int) int { return max(10, width-chartLeft-chartRight) }

// series is one row of bars in a chart.
type series struct {
	name        string
	values      []float64
	full        float64 // the value of a full bar; 0: the largest of values
	most, whole string  // shown beside it: the largest value, and the value for the whole time
}

// chart returns a chart of what has happened so far, as text.
func (l *load) chart(width int) string {
	s, err := l.pool.status()
	if err != nil {
		return err.Error() + "\n"
	}
	points := l.timeline.all()
	return draw(merge(points).lasted, columns(width), bands(points, columns(width), s))
}

// bands returns the series of a chart with this number of columns.
func bands(points []*point, columns int, s pgprod.PoolStatus) []series {
	if len(points) == 0 {
		return nil
	}
	all, capacity := merge(points), float64(s.PoolSize+max(0, s.MaxOverflow))
	points = fit(points, columns)
	rate := func(n int64, p *point) float64 { return float64(n) / p.lasted.Seconds() }
	number := func(x float64) string { return thousands(int64(x)) }
	duration := func(x float64) string { return short(time.Duration(x)) }
	band := func(name string, of func(*point) float64, format func(float64) string, whole string) series {
		b := series{name: name, whole: whole}
		for _, p := range points {
			b.values = append(b.values, of(p))
		}
		b.most = "most " + format(slices.Max(b.values))
		return b
	}
	result := []series{
		band("requests/s", func(p *point) float64 { return rate(p.took.Count(), p) }, number, "mean "+number(rate(all.took.Count(), all))),
		band("p50", func(p *point) float64 { return float64(p.took.Quantile(0.5)) }, duration, "all "+short(all.took.Quantile(0.5))),
		band("p99", func(p *point) float64 { return float64(p.took.Quantile(0.99)) }, duration, "all "+short(all.took.Quantile(0.99))),
		band("utilisation", func(p *point) float64 { return p.meanInUse() / capacity }, percent, "mean "+percent(all.meanInUse()/capacity)),
		band("waits/s", func(p *point) float64 { return rate(p.waits.Count(), p) }, number, "all "+thousands(all.waits.Count())),
		band("p99 of waits", func(p *point) float64 { return float64(p.waits.Quantile(0.99)) }, duration, "all "+short(all.waits.Quantile(0.99))),
	}
	result[3].full = 1
	if all.failed > 0 {
		result = append(result, band("errors", func(p *point) float64 { return float64(p.failed) }, number, "all "+thousands(int64(all.failed))))
	}
	return result
}

// fit returns as many points as there are columns: it merges points if there are more, and repeats them if there are fewer.
func fit(points []*point, columns int) []*point {
	fitted := make([]*point, columns)
	for c := range fitted {
		from := c * len(points) / columns
		to := max(from+1, (c+1)*len(points)/columns)
		fitted[c] = merge(points[from:to])
	}
	return fitted
}

// draw returns the chart as text.
func draw(lasted time.Duration, columns int, bands []series) string {
	var b strings.Builder
	for _, s := range bands {
		lines := bars(s.values, s.full)
		fmt.Fprintf(&b, "%-*s%s  %s\n", chartLeft, s.name, lines[0], s.most)
		fmt.Fprintf(&b, "%-*s%s  %s\n", chartLeft, "", lines[1], s.whole)
	}
	b.WriteString(strings.Repeat(" ", chartLeft) + axis(lasted, columns) + "\n")
	return b.String()
}

var blocks = []rune(" ▁▂▃▄▅▆▇█")

// bars returns the lines of vertical bars. A value above 0 has at least the smallest bar.
func bars(values []float64, full float64) (lines [chartHeight]string) {
	if full == 0 {
		full = slices.Max(values)
	}
	for _, v := range values {
		eighths := 0
		if v > 0 {
			eighths = max(1, int(math.Round(min(v/full, 1)*8*chartHeight)))
		}
		for i := range lines {
			below := 8 * (chartHeight - 1 - i)
			lines[i] += string(blocks[min(max(eighths-below, 0), 8)])
		}
	}
	return lines
}

// axis returns the line with times below a chart.
func axis(lasted time.Duration, columns int) string {
	left, middle, right := "0s", short(lasted/2), short(lasted)
	half := (columns - utf8.RuneCountInString(middle)) / 2
	return fmt.Sprintf("%-*s%-*s%s", half, left, columns-half-utf8.RuneCountInString(right), middle, right)
}

var parts = []rune(" ▏▎▍▌▋▊▉█")

// bar returns a horizontal bar for a share from 0 to 1, of at most width columns.
func bar(share float64, width int) string {
	eighths := int(math.Round(max(0, min(share, 1)) * 8 * float64(width)))
	text := strings.Repeat("█", eighths/8)
	if eighths%8 > 0 {
		text += string(parts[eighths%8])
	}
	return text
}
