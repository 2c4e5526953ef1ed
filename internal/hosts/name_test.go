package hosts_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/pgprod/pgprod/internal/hosts"
	"github.com/pgprod/pgprod/internal/settings"
)

// A line is a name, and a clock that each answer moves on by five seconds.
type line struct {
	*hosts.Name
	at time.Time
}

func newLine() *line {
	b := hosts.New(hosts.Options{Hosts: []settings.Host{{Host: "db.example", Port: 5432}}})
	return &line{hosts.NewName(b.Hosts()[0], 10*time.Minute), time.Now()}
}

// for an answer, n times.
func (l *line) answers(n int, connected []string, answer ...string) {
	for range n {
		l.at = l.at.Add(5 * time.Second)
		l.Answered(answer, connected, l.at)
	}
}

func (l *line) left(address string) bool { return l.Left(address, 30*time.Second, l.at) }

func TestANameThatLeadsElsewhereHasLeftItsOldAddress(t *testing.T) {
	l := newLine()
	old := []string{"10.0.0.1:5432"}
	l.answers(3, old, "10.0.0.1", "::1")
	assert.False(t, l.left(old[0]))
	l.answers(6, old, "10.0.0.2", "::1")
	assert.False(t, l.left(old[0]), "not for 30 seconds")
	l.answers(1, old, "10.0.0.2", "::1")
	assert.True(t, l.left(old[0]))
	assert.False(t, l.left("10.0.0.2:5432"))
	assert.False(t, l.left("[::1]:5432"))
	assert.True(t, l.Leads("10.0.0.2:5432"))
	assert.True(t, l.Leads("[::ffff:10.0.0.2]:5432"))
	assert.False(t, l.Leads("10.0.0.2:5433"), "another port")
	assert.False(t, l.Leads(old[0]))
}

func TestAnAddressThatOnlyADialHasSeenIsLeftToo(t *testing.T) {
	l := newLine()
	l.answers(1, []string{"10.0.0.1:5432"}, "10.0.0.2")
	assert.False(t, l.left("10.0.0.1:5432"))
	l.answers(6, []string{"10.0.0.1:5432"}, "10.0.0.2")
	assert.True(t, l.left("10.0.0.1:5432"))
}

func TestANameThatNamesOneOfItsAddressesEachTimeLeavesNone(t *testing.T) {
	l := newLine()
	used := []string{"10.0.0.1:5432", "10.0.0.2:5432", "10.0.0.3:5432"}
	for i := range 1000 {
		l.answers(7, used, used[i%3])
		if i < 3 { // nothing is known of it yet
			continue
		}
		for _, a := range used {
			assert.False(t, l.left(a))
		}
	}
}

func TestAFailoverAndItsReverseAreNoRotation(t *testing.T) {
	l := newLine()
	l.answers(3, nil, "10.0.0.1")
	l.answers(200, nil, "10.0.0.2") // more than ten minutes
	l.answers(7, []string{"10.0.0.2:5432"}, "10.0.0.1")
	assert.True(t, l.left("10.0.0.2:5432"))
}

func TestAnAnswerWithoutAddressesProvesNothing(t *testing.T) {
	l := newLine()
	l.answers(3, nil, "10.0.0.1")
	l.answers(10, nil)
	assert.False(t, l.left("10.0.0.1:5432"))
}

func TestOnlyNamesAreLookedUp(t *testing.T) {
	for name, is := range map[string]bool{
		"db.example": true, "db": true, "localhost": false, "10.0.0.1": false, "::1": false, "/tmp": false, "@abstract": false, "": false,
	} {
		b := hosts.New(hosts.Options{Hosts: []settings.Host{{Host: name, Port: 5432}}})
		assert.Equal(t, is, b.Hosts()[0].IsName(), name)
	}
}
