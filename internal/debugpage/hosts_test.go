package debugpage_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/debugpage/example"
)

func TestEachHostIsShownWithWhatIsKnownOfIt(t *testing.T) {
	page := text(t, "/", source(example.Trouble(night)))
	table := between(page, `id="hosts-1"`, "</table>")
	at := 0
	for _, want := range []string{
		"db-primary.internal.example:5432", `sign ok`, `</svg>up <span class="age">for 26 h</span>`, "<td>primary</td>", ">3.4 ms<", ">30<",
		"db-standby.internal.example:5432", "dial tcp 10.0.3.17:5432: connect: connection refused", "sign warn", "for 14 min", "standby", ">0<",
		"db-spare.internal.example:5432", "sign unknown", "</svg>unknown</td>", "not known", ">–<",
	} {
		next := strings.Index(table[at:], want)
		assert.GreaterOrEqual(t, next, 0, want)
		at += max(0, next)
	}
	assert.Contains(t, between(page, "Needs attention", "</ul>"),
		"Host db-standby.internal.example:5432 has been down for 14 min: dial tcp 10.0.3.17:5432: connect: connection refused.")
	assert.Contains(t, page, `<a href="#hosts-1">Hosts</a> 3`)
}

func TestASingleHostIsShownOnlyWhenItIsDown(t *testing.T) {
	s, h := example.Calm(night)
	assert.NotContains(t, text(t, "/", source(s, h)), "hosts-1")
	s.Status.Hosts = []activity.HostStatus{{Host: "a:5432", State: "down", Since: night.Add(-time.Minute), Error: "<refused>"}}
	page := text(t, "/", source(s, h))
	assert.Contains(t, between(page, `id="hosts-1"`, "</table>"), "&lt;refused&gt;")
	assert.NotContains(t, page, "Needs attention", "what follows from it is said elsewhere")
}

func TestOfManyHostsThatAreDownAFewAreFindings(t *testing.T) {
	s, h := example.Calm(night)
	for range 60 {
		s.Status.Hosts = append(s.Status.Hosts, activity.HostStatus{Host: "a:5432", State: "down", Since: night})
	}
	page := text(t, "/", source(s, h))
	assert.Equal(t, 3, strings.Count(between(page, "Needs attention", "</ul>"), "has been down for"))
	assert.Contains(t, page, "and 11 more")
}

func TestAHostThatTakesItselfForThePrimaryIsAFinding(t *testing.T) {
	s, h := example.Calm(night)
	s.Status.Hosts = []activity.HostStatus{
		{Host: "a:5432", State: "up", Role: "deposed", Since: night}, {Host: "b:5432", State: "up", Role: "primary", Since: night},
	}
	page := text(t, "/", source(s, h))
	assert.Contains(t, between(page, "Needs attention", "</ul>"), "Host a:5432 says that it is the primary, but another one was promoted")
	assert.Equal(t, 1, strings.Count(between(page, `id="hosts-1"`, "</table>"), "sign warn"))
}
