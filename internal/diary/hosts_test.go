package diary

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAHostThatGoesAndComesBackHasALineEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log log
		d := log.open(t, Options{})
		d.HostDown(Host{Name: "a:5432", Role: "primary", Connections: 7}, refused)
		assert.Equal(t, []line{{
			"level": slog.LevelWarn, "message": "pgprod: a host is down", "pool": "orders", "host": "a:5432", "role": "primary",
			"error": "connection refused", "connections": int64(7),
		}}, log.take())
		time.Sleep(time.Minute)
		d.HostUp(Host{Name: "a:5432", Role: "standby"})
		assert.Equal(t, []line{{
			"level": slog.LevelInfo, "message": "pgprod: a host is up again", "pool": "orders", "host": "a:5432", "role": "standby",
			"after": time.Minute,
		}}, log.take())
		d.HostHasRole(Host{Name: "a:5432", Role: "standby"}, "primary", false)
		assert.Equal(t, []line{{
			"level": slog.LevelInfo, "message": "pgprod: a host has another role", "pool": "orders", "host": "a:5432",
			"role": "standby", "was": "primary",
		}}, log.take())
		d.HostHasRole(Host{Name: "b:5432", Role: "deposed"}, "primary", true)
		assert.Equal(t, slog.LevelWarn, log.take()[0]["level"])
		assert.Equal(t, []string{
			"host: a:5432 is down: connection refused", "host: a:5432 is up again, as standby",
			"host: a:5432 was primary, and is standby now",
			"host: b:5432 was primary, and is deposed now",
		}, said(d.Events()))
	})
}

func TestEachHostHasItsOwnOutage(t *testing.T) {
	var log log
	d := log.open(t, Options{})
	d.HostDown(Host{Name: "a:5432"}, refused)
	d.HostDown(Host{Name: "b:5432"}, refused)
	assert.Len(t, log.take(), 2)
	d.HostUp(Host{Name: "b:5432"})
	lines := log.take()
	require.Len(t, lines, 1)
	assert.Equal(t, "b:5432", lines[0]["host"])
}

func TestAHostThatFlapsIsToldOfAFewTimesAndWhenItStaysAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log log
		d := log.open(t, Options{})
		for range 50 {
			d.HostDown(Host{Name: "a:5432"}, refused)
			time.Sleep(100 * time.Millisecond)
			d.HostUp(Host{Name: "a:5432"})
			time.Sleep(100 * time.Millisecond)
		}
		assert.Len(t, log.take(), 2*outagesAtOnce)
		time.Sleep(longOutage)
		assert.Empty(t, log.take(), "it is up")

		d.HostDown(Host{Name: "a:5432"}, refused)
		assert.Empty(t, log.take())
		time.Sleep(longOutage)
		synctest.Wait()
		lines := log.take()
		require.Len(t, lines, 1)
		assert.Equal(t, "pgprod: a host is down", lines[0]["message"])
		assert.EqualValues(t, 47, lines[0]["repeated"])
		d.HostUp(Host{Name: "a:5432"})
		lines = log.take()
		require.Len(t, lines, 1)
		assert.Equal(t, longOutage, lines[0]["after"])
	})
}

func TestNothingIsToldOfAHostAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log log
		d := log.open(t, Options{})
		for range outagesAtOnce {
			d.HostDown(Host{Name: "a:5432"}, refused)
			d.HostUp(Host{Name: "a:5432"})
		}
		d.HostDown(Host{Name: "a:5432"}, refused)
		log.take()
		d.Close()
		d.HostDown(Host{Name: "a:5432"}, refused)
		time.Sleep(2 * longOutage)
		synctest.Wait()
		assert.Empty(t, log.take())
	})
}
