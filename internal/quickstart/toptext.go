package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/debugpage"
	"github.com/pgprod/pgprod/internal/diagnose"
)

// The most that the mode -top shows of each list.
const (
	mostRunning = 30
	mostSlowOld = 10
	mostByTime  = 15
)

// text is the picture as it is written: lines no wider than width, at most height of them. 0 is no limit.
func (p picture) text(width, height int, ansi bool) string {
	var b strings.Builder
	lines := p.fitted(width)
	for i, line := range lines {
		if height > 0 && i == height-1 && len(lines) > height {
			more := fmt.Sprintf("… %d more lines: enlarge the window, or use -once", len(lines)-i)
			b.WriteString(clipped(more, width) + endOfLine(ansi))
			break
		}
		if ansi && line.bold {
			line.text = "\x1b[1m" + line.text + "\x1b[0m"
		}
		b.WriteString(line.text + endOfLine(ansi))
	}
	return b.String()
}

// fitted are the lines, none of them wider than width.
func (p picture) fitted(width int) (lines picture) {
	for _, line := range p {
		line.text = printable(line.text)
		if !line.goesOn || width <= line.indent+20 {
			line.text = clipped(line.text, width)
			lines = append(lines, line)
			continue
		}
		rest := line.text
		for margin := ""; rest != ""; margin = strings.Repeat(" ", line.indent) {
			var now string
			now, rest = broken(rest, width-len(margin))
			lines = append(lines, pictureLine{text: margin + now})
		}
	}
	return lines
}

// broken breaks a text in two, of which the first is no wider than width, at a space if there is one behind its middle.
func broken(text string, width int) (first, rest string) {
	runes := []rune(text)
	if len(runes) <= width {
		return text, ""
	}
	for at := width; at > width/2; at-- {
		if runes[at] == ' ' {
			return string(runes[:at]), string(runes[at+1:])
		}
	}
	return string(runes[:width]), string(runes[width:])
}

// endOfLine ends a line. On a screen it also erases what was there before behind it.
func endOfLine(ansi bool) string {
	if ansi {
		return "\x1b[K\n"
	}
	return "\n"
}

// clipped cuts a text that is wider than width, unless that is 0.
func clipped(text string, width int) string {
	runes := []rune(text)
	if width <= 0 || len(runes) <= width {
		return text
	}
	return string(runes[:width-1]) + "…"
}

// printable is a text without what a terminal would obey, such as an application's name may have in it.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\u202f':
			return ' '
		case !unicode.IsPrint(r):
			return '·'
		}
		return r
	}, text)
}

// roughly is a duration as the log has it, with fewer digits below a millisecond.
func roughly(d time.Duration) string {
	if d < time.Millisecond {
		return d.Round(time.Microsecond).String()
	}
	return activity.Rough(d)
}

// joined joins those of some texts that aren't empty.
func joined(texts ...string) string {
	var some []string
	for _, t := range texts {
		if t != "" {
			some = append(some, t)
		}
	}
	return strings.Join(some, ", ")
}

// pool adds what a page says of a pool.
func (p *picture) pool(pool *debugpage.Pool) {
	s, st := &pool.Snapshot, &pool.Snapshot.Status
	p.head("%s  %s  %s", s.At.Format(time.TimeOnly), pool.Name, cmp.Or(pool.Health.Status, "unknown"))
	if why := pool.Health.Reason; why != "" {
		p.say(0, "%s", why)
	}
	p.say(0, "%d in use (%.0f %%), %d waiting, %d idle; %s, %s, %s; %s saved", st.CheckedOut, 100*st.Utilisation, st.Waiting,
		st.CheckedIn, plural(st.Timeouts, "timeout"), plural(st.FailedConnects, "failed connect"),
		plural(st.CommitsUnknown, "unknown commit"), plural(s.Saved.Total(), "round trip"))
	p.hosts(s.Status.Hosts, s.At)
	if len(pool.Findings) > 0 {
		p.head("NEEDS ATTENTION")
	}
	for _, f := range pool.Findings {
		text := f.Text
		if f.Label != "" {
			text = f.Label + ": " + text
		}
		p.say(3, "%s %s", map[string]string{"bad": "!!", "warn": " !"}[f.Grade], text)
	}
	p.trees(s.Blocking, true)
	p.holders(s.Holders)
	p.slow(s.Slow)
	p.statements(s.Statements)
	p.plans(s.Statements)
}

// hosts adds a line for each of several hosts.
func (p *picture) hosts(all []activity.HostStatus, at time.Time) {
	if len(all) < 2 {
		return
	}
	for _, h := range all {
		state, latency := h.State, ""
		if !h.Since.IsZero() {
			state += " for " + activity.Rough(at.Sub(h.Since))
		}
		if h.Latency > 0 {
			latency = "answered in " + roughly(h.Latency)
		}
		p.say(3, "host %s: %s", h.Host, joined(state, h.Role, plural(int64(h.Connections), "connection"), latency, h.Error))
	}
}

// trees adds who blocks whom. marks says that sessions are marked that aren't the pool's own.
func (p *picture) trees(trees []*activity.Node, marks bool) {
	if len(trees) == 0 {
		return
	}
	p.head("WHO WAITS FOR WHOM")
	activity.Walk(trees, func(n *activity.Node, depth int) {
		margin := strings.Repeat("   ", depth)
		lead := margin
		if depth > 0 {
			lead = margin[3:] + "└─ "
		}
		blocks := ""
		if n := n.Blocks(); n > 0 {
			blocks = fmt.Sprintf("blocks %d", n)
		}
		p.say(len(margin)+3, "%s%s%s: %s", lead, n.Name(), whose(n, marks),
			cmp.Or(joined(blocks, n.Does(), n.Who()), "nothing is known of it"))
		if n.Text != "" {
			p.add("%s   %s", margin, n.Text)
		}
		for _, more := range append([]string{n.HeldBy()}, n.Notes()...) {
			if more != "" {
				p.say(len(margin)+3, "%s   %s", margin, more)
			}
		}
	})
}

// whose says in brackets whether a session is the pool's own, if that is wanted and known.
func whose(n *activity.Node, wanted bool) string {
	if !wanted || n.Whose() == "" {
		return ""
	}
	return " (" + n.Whose() + ")"
}

// holders adds what runs on a pool's connections, and how many others are held.
func (p *picture) holders(all []activity.Holder) {
	var running []activity.Holder
	for _, h := range all {
		if h.Running {
			running = append(running, h)
		}
	}
	if len(all) > 0 {
		p.head("RUNNING: %d, and %d connections that are held without a statement under way", len(running), len(all)-len(running))
	}
	for i, h := range running {
		if i == mostRunning {
			p.add("and %d more", len(running)-i)
			break
		}
		p.running(h.Runs, h.PID, h.Statement, h.Found, h.TraceID)
	}
}

// running adds a statement under way.
func (p *picture) running(runs time.Duration, pid uint32, statement, found, trace string) {
	p.add("%8s  %7d  %s", roughly(runs), pid, statement)
	if found != "" {
		p.say(21, "%19s%s", "", found)
	}
	if trace != "" {
		p.add("%19strace %s", "", trace)
	}
}

// slow adds the last statements that were slow.
func (p *picture) slow(all []activity.SlowStatement) {
	if len(all) > 0 {
		p.head("SLOW LATELY")
	}
	for _, s := range all[:min(len(all), mostSlowOld)] {
		p.add("%s  %8s  %s", s.At.Format(time.TimeOnly), roughly(s.Took), joined(s.Summary, s.Failed))
		p.add("%20swaited %s, server %s, reading %s", "", roughly(s.Waited), roughly(s.Server), roughly(s.Read))
		if s.Found != "" {
			p.say(22, "%20s%s", "", s.Found)
		}
		if s.TraceID != "" {
			p.add("%20strace %s", "", s.TraceID)
		}
	}
}

// statements adds those that took the most time in all.
func (p *picture) statements(all []activity.Statement) {
	if len(all) == 0 {
		return
	}
	p.head("%9s %6s %8s %8s %8s %8s %8s %8s  %s", "COUNT", "ERRORS", "IN ALL", "WAITED", "SERVER", "READING", "P95", "MAX",
		"STATEMENT, of the last five to ten minutes")
	for _, s := range all[:min(len(all), mostByTime)] {
		p.add("%9d %6d %8s %8s %8s %8s %8s %8s  %s", s.Count, s.Errors, roughly(s.Total), roughly(s.Waited), roughly(s.Server),
			roughly(s.Read), roughly(s.P95), roughly(s.Max), s.Summary)
	}
	if more := len(all) - mostByTime; more > 0 {
		p.add("and %d more with less time in all", more)
	}
}

// plans adds the plans of those that were slow.
func (p *picture) plans(all []activity.Statement) {
	for _, s := range all {
		if s.Plan == nil || s.Plan.Text == "" {
			continue
		}
		p.head("PLAN of one that took %s: %s", roughly(s.Plan.Took), s.Summary)
		for line := range strings.Lines(s.Plan.Text) {
			p.add("%s", strings.TrimSuffix(line, "\n"))
		}
	}
}

// plural is a count and a noun.
func plural[N int | int64](n N, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// hidden says that there are sessions that the role may not see.
func hidden(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("and of %d the role may not see what they do (pg_read_all_stats)", n)
}

// server adds what a server's sessions do.
func (p *picture) server(s *diagnose.Server) {
	kind := "primary"
	if s.InRecovery {
		kind = "standby"
	}
	p.head("%s  PostgreSQL %s, %s: %d of %d connections", s.At.Format(time.TimeOnly), s.Version, kind, s.Connections, s.Limit)
	p.trees(s.Blocking, false)
	p.head("BUSY: %s", joined(plural(len(s.Busy), "session"), hidden(s.Hidden)))
	for i, n := range s.Busy {
		if i == mostRunning {
			p.add("and %d more", len(s.Busy)-i)
			break
		}
		does := strings.TrimSuffix(n.Does(), " for "+activity.Rough(n.InState))
		p.running(n.InState, n.PID, joined(does, n.Who()), n.Text, "")
	}
}
