package doctor

import (
	"fmt"
	"strings"
	"time"
)

// A Status says how a thing is that was looked at.
type Status string

// The statuses.
const (
	OK      Status = "ok"
	Warning Status = "warning" // it works, but somebody should look at it
	Failure Status = "failure" // it doesn't work
	Skipped Status = "skipped" // it was not looked at, and Detail says why
)

// verdict is the check of the last line.
const verdict = "verdict"

// A Line is what is said of one thing that was looked at. The names in JSON are for other programs, and stay.
type Line struct {
	Check  string `json:"check"`  // what was looked at
	Host   string `json:"host"`   // host:port, with the address behind it if there are several; "": it isn't about one host
	Status Status `json:"status"` // ok, warning, failure or skipped
	Detail string `json:"detail"` // what was found
	Advice string `json:"advice"` // what to do; "": nothing
}

// String returns the line as text.
func (l Line) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-7s  %s: ", l.Status, l.Check)
	if l.Host != "" {
		b.WriteString(l.Host + ": ")
	}
	b.WriteString(l.Detail)
	if l.Advice != "" {
		b.WriteString(" → " + l.Advice)
	}
	return b.String()
}

// A Report is the outcome of an examination.
type Report struct {
	Status     Status `json:"status"`      // that of the verdict: ok, warning or failure
	ExitStatus int    `json:"exit_status"` // CanServe, CannotServe or Misconfigured
	Checks     []Line `json:"checks"`      // the last one is the verdict
}

// A place is where something is looked at: one host, or everywhere.
type place struct {
	*examination
	host string // as in Line
}

func (p place) ok(check, format string, args ...any) { p.add(check, OK, "", format, args...) }

func (p place) warn(check, advice, format string, args ...any) {
	p.add(check, Warning, advice, format, args...)
}

func (p place) fail(check, advice, format string, args ...any) {
	p.add(check, Failure, advice, format, args...)
}

func (p place) skip(check, format string, args ...any) { p.add(check, Skipped, "", format, args...) }

// add adds a line. Whatever a server says becomes part of one line.
func (p place) add(check string, status Status, advice, format string, args ...any) {
	detail := strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " ")
	p.say(Line{Check: check, Host: p.host, Status: status, Detail: detail, Advice: advice})
}

// short rounds a duration to what matters of it.
func short(d time.Duration) time.Duration {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond)
	case d < time.Second:
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(time.Millisecond)
}
