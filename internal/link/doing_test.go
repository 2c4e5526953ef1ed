package link

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/guard"
)

// newDoing returns a connection of which only that part is there by which others see what it does. It has no server.
func newDoing() *Conn { return &Conn{guard: guard.New(func() bool { return true })} }

// begins has a statement begin, as Conn.begin does.
func (c *Conn) begins(sql string, began int64) {
	c.doing.note("", sql, began)
	c.guard.Begin(began, 0, guard.Cancelling)
}

func TestACauseIsThatOfItsStatementAloneAndDroppedAfterItsEnd(t *testing.T) {
	c, cause := newDoing(), &activity.Cause{}
	_, running := c.UnderWay()
	assert.False(t, running)

	c.begins("select 1", 1000)
	first, running := c.UnderWay()
	require.True(t, running)
	assert.Equal(t, Moment{SQL: "select 1", Began: 1000}, first)
	assert.True(t, c.NoteCause(first.Began, cause))
	seen, _ := c.UnderWay()
	assert.Same(t, cause, seen.Cause)
	assert.Same(t, cause, c.doing.causeOf(1000))

	c.begins("select 1", 2000)
	assert.Nil(t, c.doing.causeOf(2000), "the next statement of the same text has none")
	assert.False(t, c.NoteCause(first.Began, cause), "it comes too late")
	assert.Nil(t, c.doing.causeOf(2000))

	c.guard.Begin(clock.Now(), 0, guard.HangingUp) // as a ping does
	c.doing.noStatement()
	_, running = c.UnderWay()
	assert.False(t, running, "a ping is no statement that runs since the last one began")
	assert.False(t, c.NoteCause(2000, cause))
}

func TestAConnectionIsKnownByItsPidAndItsPortOrTheTimeOfItsBeginning(t *testing.T) {
	const second = int64(1e9)
	c := &Conn{backend: backend{pid: 7, port: 40000, dialled: 100 * second, up: 101 * second}}
	for _, one := range []struct {
		pid     uint32
		port    int
		started int64
		is      bool
	}{
		{7, 40000, 100 * second, true},
		{7, 40000, 500 * second, true},  // the server's clock was set
		{7, 5555, 100 * second, true},   // a proxy is in between, which passes pids on
		{7, -1, 103 * second, true},     // a socket
		{7, 5555, 104 * second, false},  // another server behind the same address, with such a pid
		{7, 5555, 97 * second, false},   //
		{8, 40000, 100 * second, false}, // a pooler has made up ours
		{0, 40000, 100 * second, false},
	} {
		assert.Equal(t, one.is, c.IsServedBy(one.pid, one.port, one.started), "%+v", one)
	}
	c.backend.port, c.backend.pid = 0, 7
	assert.False(t, c.IsServedBy(7, 0, 500*second), "no port is no proof")
}

func TestTheMajorVersionIsWhatServerVersionBeginsWith(t *testing.T) {
	for version, want := range map[string]int{"18.1 (Debian 18.1-1.pgdg13+2)": 18, "14.20": 14, "19beta1": 19, "20devel": 20, "": 0} {
		assert.Equal(t, want, majorOf(version), version)
	}
}

func TestAStatementThatIsQuickAllocatesNothingForThoseWhoLook(t *testing.T) {
	c, began := newDoing(), int64(0)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		began++
		c.begins("select 1", began)
		c.guard.End()
	}))
}

// BenchmarkDoing is what it costs each statement that others can see it, and may tell it its cause.
func BenchmarkDoing(b *testing.B) {
	c := newDoing()
	b.ReportAllocs()
	for n := range b.N {
		c.begins("select 1", int64(n+1))
		c.guard.End()
	}
}
