package debugpage

import (
	"slices"
	"time"

	"github.com/pgprod/pgprod/internal/activity"
)

// A host is a row of the table of hosts.
type host struct {
	activity.HostStatus
	Grade string // of its state
	For   string // how long it has had that; "": not known
}

// hosts returns the rows about a pool's hosts. There are none if it has a single one, which is up: the page's head says all of
// that.
func hosts(s *activity.Snapshot) top[host] {
	all := s.Status.Hosts
	if len(all) < 2 && !slices.ContainsFunc(all, isDown) {
		return top[host]{}
	}
	shown := first(all, mostRows)
	rows := make([]host, len(shown.Rows))
	for i, h := range shown.Rows {
		rows[i] = host{HostStatus: h, Grade: hostGrades[h.State]}
		if isDeposed(h) {
			rows[i].Grade = "warn"
		}
		if !h.Since.IsZero() {
			rows[i].For = duration(s.At.Sub(h.Since))
		}
	}
	return top[host]{rows, shown.More}
}

// hostGrades are the grades of a host's states. A host that is down is a warning, since another one may do; whether one does is
// said by the pool's own health.
var hostGrades = map[string]string{"up": "ok", "down": "warn", "unknown": "unknown"}

// mostOfHosts is how many hosts are findings.
const mostOfHosts = 3

// wrongHosts returns a finding for each of several hosts that is down, or takes itself for the primary though it isn't.
func wrongHosts(s *activity.Snapshot) (all []finding) {
	if len(s.Status.Hosts) < 2 {
		return nil
	}
	for _, h := range s.Status.Hosts {
		if text := wrongWith(h, s.At); text != "" && len(all) < mostOfHosts {
			all = append(all, finding{"warn", "", "Host " + activity.Shorten(h.Host, mostText) + " " + text + ".", "hosts"})
		}
	}
	return all
}

// wrongWith says what is wrong with a host; "" if nothing is.
func wrongWith(h activity.HostStatus, now time.Time) string {
	switch {
	case isDown(h) && h.Error != "":
		return "has been down for " + duration(now.Sub(h.Since)) + ": " + activity.Shorten(h.Error, mostText)
	case isDown(h):
		return "has been down for " + duration(now.Sub(h.Since))
	case isDeposed(h):
		return "says that it is the primary, but another one was promoted in its place: stop it, or make it a standby"
	}
	return ""
}

func isDown(h activity.HostStatus) bool    { return h.State == "down" }
func isDeposed(h activity.HostStatus) bool { return h.Role == "deposed" }
