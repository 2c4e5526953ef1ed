package main

import "math"

// A panel of the chart is one workload at one level of telemetry.
type panel struct {
	title, subtitle string
	bars            []svgBar
}

type svgBar struct {
	label string
	spread
	digits int
	ours   bool
}

// panels chooses what the chart shows: for each workload the figure that it is about.
func (r *report) panels() []panel {
	var all []panel
	index := map[[2]string]int{}
	for _, s := range r.series {
		key := panelKey(s)
		if _, ok := index[key]; !ok {
			index[key] = len(all)
			p := newPanel(s)
			if b := r.baseOf(s); b != nil && s.workload.levels != nil {
				p.bars = append(p.bars, newBar(b))
			}
			all = append(all, p)
		}
		if b := newBar(s); s != r.baseOf(s) || s.workload.levels == nil {
			i := index[key]
			all[i].bars = append(all[i].bars, b)
		}
	}
	return all
}

// panelKey parts levels of telemetry only where they are what is measured.
func panelKey(s *series) [2]string {
	if s.workload.levels == nil {
		return [2]string{s.workload.name}
	}
	if s.who.level == none {
		return [2]string{s.workload.name, noSDK} // the base: it is in all of them, and begins the first
	}
	return [2]string{s.workload.name, s.who.level}
}

func newPanel(s *series) panel {
	m := s.workload.chart
	p := panel{title: s.workload.name, subtitle: m.name}
	if key := panelKey(s); key[1] != "" {
		p.title += ", " + key[1]
	}
	if m.unit != "" {
		p.subtitle += ", " + m.unit
	}
	if m.more {
		p.subtitle += " (more is better)"
	} else {
		p.subtitle += " (less is better)"
	}
	return p
}

func newBar(s *series) svgBar {
	b := svgBar{label: s.who.peer.name, spread: s.spread(s.workload.chart), ours: s.who.peer.name == "pgprod"}
	if b.median < 100 {
		b.digits = int(math.Max(0, 2-math.Floor(math.Log10(math.Max(b.median, 0.1)))))
		b.digits = min(b.digits, 2)
	}
	return b
}
