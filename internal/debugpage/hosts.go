package debugpage

import (
	"slices"

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
		if !h.Since.IsZero() {
			rows[i].For = duration(s.At.Sub(h.Since))
		}
	}
	return top[host]{rows, shown.More}
}

// hostGrades are the grades of a host's states. A host that is down is a warning, since another one may do; whether one does is
// said by the pool's own health.
var hostGrades = map[string]string{"up": "ok", "down": "warn", "unknown": "unknown"}

func isDown(h activity.HostStatus) bool { return h.State == "down" }

// mostHostsDown is how many hosts that are down are findings.
const mostHostsDown = 3

// hostsDown returns a finding for each of several hosts that is down.
func hostsDown(s *activity.Snapshot) (all []finding) {
	if len(s.Status.Hosts) < 2 {
		return nil
	}
	for _, h := range s.Status.Hosts {
		if !isDown(h) || len(all) == mostHostsDown {
			continue
		}
		text := "Host " + activity.Shorten(h.Host, mostText) + " has been down for " + duration(s.At.Sub(h.Since))
		if h.Error != "" {
			text += ": " + activity.Shorten(h.Error, mostText)
		}
		all = append(all, finding{"warn", "", text + ".", "hosts"})
	}
	return all
}
