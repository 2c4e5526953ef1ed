package hosts_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/pgprod/pgprod/internal/hosts"
	"github.com/pgprod/pgprod/internal/settings"
)

// board returns a board of n hosts, and a list of the changes that it tells of.
func board(n int, wanted hosts.Wanted) (b *hosts.Board, told *[]string) {
	told = new([]string)
	o := hosts.Options{Wanted: wanted, Changed: func(h *hosts.Host, c hosts.Change) {
		*told = append(*told, h.Name()+" "+c.Was.State.String()+" "+c.Is.State.String()+" "+c.Is.Role.String())
	}}
	for i := range n {
		o.Hosts = append(o.Hosts, settings.Host{Host: string(rune('a' + i)), Port: 5432})
	}
	return hosts.New(o), told
}

// names are those of hosts, one letter each.
func names(all []*hosts.Host) (s string) {
	for _, h := range all {
		s += h.At().Host
	}
	return s
}

func TestADialTriesWhatWillDoFirst(t *testing.T) {
	b, _ := board(4, "read-write")
	all := b.Hosts()
	assert.Equal(t, "abcd", names(b.Plan().First), "nothing is known")
	all[0].Serves(hosts.Standby, time.Millisecond)
	all[1].Fails(errors.New("gone"))
	all[3].Serves(hosts.Primary, time.Millisecond)
	p := b.Plan()
	assert.Equal(t, "dc", names(p.First))
	assert.Equal(t, "a", names(p.Rest))
	assert.False(t, p.Seek)
}

func TestAllAreAskedIfNoneIsKnownThatWouldDo(t *testing.T) {
	b, _ := board(2, "read-write")
	b.Hosts()[0].Fails(errors.New("gone"))
	b.Hosts()[1].Serves(hosts.Standby, 0)
	p := b.Plan()
	assert.True(t, p.Seek)
	assert.Len(t, p.First, 2)
}

func TestASingleHostIsAlwaysTried(t *testing.T) {
	b, _ := board(1, "read-write")
	b.Hosts()[0].Fails(errors.New("gone"))
	assert.Equal(t, hosts.Plan{First: b.Hosts()}, b.Plan())
}

func TestAHostThatIsBackIsPreferredAgain(t *testing.T) {
	b, told := board(2, "any")
	a := b.Hosts()[0]
	a.Fails(errors.New("gone"))
	a.Fails(errors.New("still gone"))
	assert.Equal(t, "b", names(b.Plan().First))
	a.Serves(hosts.Primary, 0)
	assert.Equal(t, "ab", names(b.Plan().First))
	assert.Equal(t, []string{"a:5432 unknown down ", "a:5432 down up primary"}, *told)
}

func TestRandomOrderUsesAllHosts(t *testing.T) {
	o := hosts.Options{Wanted: "any", Random: true, Hosts: []settings.Host{{Host: "a"}, {Host: "b"}, {Host: "c"}}}
	b, seen := hosts.New(o), map[string]bool{}
	for range 1000 {
		seen[names(b.Plan().First)] = true
	}
	assert.Len(t, seen, 6)
}

func TestEachValueOfTargetSessionAttrsHasItsRoles(t *testing.T) {
	const no, second, maybe, yes = hosts.Unfit, hosts.Second, hosts.Maybe, hosts.Fits
	for wanted, fits := range map[hosts.Wanted][5]hosts.Fit{ // unknown, primary, read-only, standby, deposed
		"any":            {yes, yes, yes, yes, yes},
		"read-write":     {maybe, yes, no, no, no},
		"read-only":      {maybe, no, yes, yes, no},
		"primary":        {maybe, yes, yes, no, no},
		"standby":        {maybe, no, no, yes, no},
		"prefer-standby": {maybe, second, second, yes, second},
	} {
		for role, fit := range fits {
			assert.Equal(t, fit, wanted.Fit(hosts.Role(role)), "%s %v", wanted, hosts.Role(role))
		}
	}
}
