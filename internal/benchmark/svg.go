package main

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// Sizes of the chart, in pixels.
const (
	panelsAcross = 3
	panelWidth   = 380
	labelWidth   = 118
	valueWidth   = 56
	barWidth     = panelWidth - labelWidth - valueWidth - 16
	barHeight    = 14
	headHeight   = 44
)

// style gives both schemes their colours; text and lines are readable on white and on GitHub's dark grey.
const style = `
text { font: 11px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 12px }
.sub { fill: #57606a; font-size: 10px }
.peer { fill: #afb8c1 }
.ours { fill: #0969da }
.spread { stroke: #24292f; stroke-width: 1 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .sub { fill: #9198a1 }
  .peer { fill: #57606a }
  .ours { fill: #4493f8 }
  .spread { stroke: #e6edf3 }
}
`

// writeSVG draws the panels, row by row; each row is as high as its highest.
func writeSVG(w io.Writer, panels []panel) error {
	var body strings.Builder
	y := 0
	for row := 0; row < len(panels); row += panelsAcross {
		highest := 0
		for column, p := range panels[row:min(row+panelsAcross, len(panels))] {
			drawPanel(&body, p, column*panelWidth, y)
			highest = max(highest, headHeight+len(p.bars)*(barHeight+4))
		}
		y += highest + 12
	}
	out := bufio.NewWriter(w)
	_, _ = fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" width="%[1]d" height="%[2]d" viewBox="0 0 %[1]d %[2]d" role="img">`+
		"\n<title>pgprod and its peers, by workload</title>\n<style>%[3]s</style>\n%[4]s</svg>\n",
		panelsAcross*panelWidth, y, style, body.String())
	return out.Flush()
}

func drawPanel(out *strings.Builder, p panel, x, y int) {
	drawText(out, "title", x+8, y+18, p.title)
	drawText(out, "sub", x+8, y+34, p.subtitle)
	largest := 0.0
	for _, b := range p.bars {
		largest = max(largest, b.q3, b.median)
	}
	for i, b := range p.bars {
		drawBar(out, b, largest, x+8, y+headHeight+i*(barHeight+4))
	}
}

// drawBar draws a median as a bar, and its quartiles as a line through the bar's end.
func drawBar(out *strings.Builder, b svgBar, largest float64, x, y int) {
	scale := func(v float64) float64 {
		if !(largest > 0) || !(v > 0) {
			return 0
		}
		return v / largest * barWidth
	}
	class := "peer"
	if b.ours {
		class = "ours"
	}
	left := float64(x + labelWidth)
	drawText(out, "", x, y+barHeight-3, b.label)
	_, _ = fmt.Fprintf(out, `<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d" rx="2"/>`+"\n", class, left, y, scale(b.median), barHeight)
	if b.q1 < b.q3 {
		_, _ = fmt.Fprintf(out, `<line class="spread" x1="%.1f" x2="%.1f" y1="%[3]d" y2="%[3]d"/>`+"\n",
			left+scale(b.q1), left+scale(b.q3), y+barHeight/2)
	}
	end := left + max(scale(b.median), scale(b.q3)) + 4
	drawText(out, "", int(end), y+barHeight-3, format(b.median, b.digits))
}

func drawText(out *strings.Builder, class string, x, y int, text string) {
	attribute := ""
	if class != "" {
		attribute = fmt.Sprintf(` class="%s"`, class)
	}
	_, _ = fmt.Fprintf(out, `<text%s x="%d" y="%d">`, attribute, x, y)
	_ = xml.EscapeText(out, []byte(text)) // a strings.Builder has no errors
	out.WriteString("</text>\n")
}
