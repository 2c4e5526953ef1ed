package hosts_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/pgprod/pgprod/internal/hosts"
)

// contested returns two hosts of one cluster that both take themselves for the primary.
func contested(t *testing.T) (b *hosts.Board, old, promoted *hosts.Host, told *[]string) {
	t.Helper()
	b, told = board(2, "read-write")
	old, promoted = b.Hosts()[0], b.Hosts()[1]
	old.Serves(hosts.Primary, 0)
	promoted.Serves(hosts.Standby, 0)
	assert.False(t, b.Contested())
	promoted.Serves(hosts.Primary, 0)
	assert.True(t, b.Contested())
	return b, old, promoted, told
}

func TestOfTwoPrimariesTheOneWithTheLaterTimelineIsOne(t *testing.T) {
	b, old, promoted, told := contested(t)
	promoted.Claims(hosts.Claim{Cluster: "1", Timeline: 2})
	assert.Equal(t, "ab", names(b.Plan().First), "the other one may be of another cluster")
	*told = nil
	old.Claims(hosts.Claim{Cluster: "1", Timeline: 1})
	assert.Equal(t, []string{"a:5432 up up deposed"}, *told)
	old.Serves(hosts.Primary, 0)
	old.HasRole(hosts.Primary)
	assert.Equal(t, hosts.Deposed, old.As(hosts.Primary), "whatever it says")
	assert.Equal(t, "b", names(b.Plan().First))

	promoted.Fails(errors.New("gone"))
	assert.Equal(t, hosts.Deposed, old.Status().Role, "what is written to it would be lost")
}

func TestOneIsDeposedAlsoIfItsClaimIsKnownFirst(t *testing.T) {
	_, old, promoted, told := contested(t)
	old.Claims(hosts.Claim{Cluster: "1", Timeline: 1})
	*told = nil
	promoted.Claims(hosts.Claim{Cluster: "1", Timeline: 2})
	assert.Equal(t, []string{"a:5432 up up deposed"}, *told)
}

func TestPrimariesOfTwoClustersAndThoseOnOneTimelineAreNotCompared(t *testing.T) {
	for _, c := range []hosts.Claim{{}, {Cluster: "2", Timeline: 1}, {Cluster: "1", Timeline: 2}} {
		_, old, promoted, _ := contested(t)
		promoted.Claims(hosts.Claim{Cluster: "1", Timeline: 2})
		old.Claims(c)
		if c.Cluster != "" {
			assert.Equal(t, hosts.Primary, old.Status().Role, "%v", c)
		}
		assert.Equal(t, hosts.Primary, promoted.Status().Role, "%v", c)
	}
}

func TestADeposedHostMayBecomeAStandbyAndThePrimaryAgain(t *testing.T) {
	_, old, promoted, _ := contested(t)
	promoted.Claims(hosts.Claim{Cluster: "1", Timeline: 2})
	old.Claims(hosts.Claim{Cluster: "1", Timeline: 1})
	old.Serves(hosts.Standby, 0)
	assert.Equal(t, hosts.Standby, old.Status().Role)
	promoted.Fails(errors.New("gone"))
	old.Claims(hosts.Claim{Cluster: "1", Timeline: 3})
	old.Serves(hosts.Primary, 0)
	assert.Equal(t, hosts.Primary, old.Status().Role)
}

func TestTheClaimOfAHostThatIsGoneForGoodEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, old, promoted, _ := contested(t)
		promoted.Claims(hosts.Claim{Cluster: "1", Timeline: 2})
		old.Claims(hosts.Claim{Cluster: "1", Timeline: 1})
		promoted.Fails(errors.New("gone"))
		time.Sleep(9 * time.Minute)
		old.Serves(hosts.Primary, 0)
		assert.Equal(t, hosts.Deposed, old.Status().Role)
		time.Sleep(2 * time.Minute)
		old.Serves(hosts.Primary, 0)
		assert.Equal(t, hosts.Primary, old.Status().Role)
	})
}
