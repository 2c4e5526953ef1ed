package hosts_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/pgprod/pgprod/internal/hosts"
	"github.com/pgprod/pgprod/internal/settings"
)

// within20 asks for an answer within 20 seconds of a host that has been up for five.
var within20 = hosts.Proof{Within: 20 * time.Second, UpFor: 5 * time.Second}

func TestConnectionsMoveToAnEarlierHostOnceThatIsProven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := board(2, "any")
		first, second := b.Hosts()[0], b.Hosts()[1]
		second.Serves(hosts.Standby, 0)
		assert.False(t, b.Better(second, within20), "nobody has asked the first")
		first.Fails(errors.New("gone"))
		assert.False(t, b.Better(second, within20))
		first.Serves(hosts.Primary, 0)
		assert.False(t, b.Better(second, within20), "it has just come back")
		time.Sleep(5 * time.Second)
		assert.True(t, b.Better(second, within20))
		assert.False(t, b.Better(first, within20))
		time.Sleep(16 * time.Second)
		assert.False(t, b.Better(second, within20), "that was some time ago")
		first.Serves(hosts.Primary, 0)
		assert.True(t, b.Better(second, within20))
	})
}

func TestConnectionsMoveToWhereTheyAreWanted(t *testing.T) {
	const p, r, s, no = hosts.Primary, hosts.ReadOnly, hosts.Standby, hosts.NoRole
	for _, c := range []struct {
		wanted hosts.Wanted
		random bool
		roles  [2]hosts.Role // the connection is to the second one
		better bool
	}{
		{"any", false, [2]hosts.Role{s, p}, true},
		{"any", false, [2]hosts.Role{no, no}, true},
		{"any", true, [2]hosts.Role{s, p}, false},
		{"standby", false, [2]hosts.Role{s, s}, true},
		{"standby", false, [2]hosts.Role{p, s}, false},
		{"standby", true, [2]hosts.Role{s, p}, true}, // it has been promoted
		{"read-only", false, [2]hosts.Role{r, s}, true},
		{"read-only", false, [2]hosts.Role{no, s}, false},
		{"prefer-standby", false, [2]hosts.Role{s, p}, true},
		{"prefer-standby", true, [2]hosts.Role{s, p}, true},
		{"prefer-standby", false, [2]hosts.Role{p, s}, false},
		{"prefer-standby", false, [2]hosts.Role{p, p}, true},
		{"read-write", false, [2]hosts.Role{p, p}, false},
		{"read-write", false, [2]hosts.Role{p, s}, true}, // it has been demoted
		{"primary", false, [2]hosts.Role{p, r}, false},
		{"primary", false, [2]hosts.Role{s, s}, false},
	} {
		b := hosts.New(hosts.Options{Wanted: c.wanted, Random: c.random, Hosts: []settings.Host{{Host: "a"}, {Host: "b"}}})
		for i, h := range b.Hosts() {
			h.Serves(c.roles[i], 0)
		}
		assert.Equal(t, c.better, b.Better(b.Hosts()[1], hosts.Proof{Within: time.Hour}), "%+v", c)
	}
}
