package diary

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

var refused = Failure{Type: "dial", Sort: "dial refused", Text: "connection refused"}

func TestAnOutageHasALineAtItsBeginningAndOneAtItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log log
		d := log.open(t, Options{})
		for range 100 {
			d.DialFailed(t.Context(), refused, false)
			time.Sleep(100 * time.Millisecond)
		}
		assert.Equal(t, []line{{
			"level": slog.LevelError, "message": "pgprod: can't connect, dialling goes on", "pool": "orders",
			"error": "connection refused",
		}}, log.take())
		errors := d.Errors()
		assert.Equal(t, []string{"connect: connection refused"}, said(errors))
		assert.EqualValues(t, 100, errors[0].Count)

		d.DialSucceeded(t.Context())
		d.DialSucceeded(t.Context())
		assert.Equal(t, []line{{
			"level": slog.LevelInfo, "message": "pgprod: connected again", "pool": "orders",
			"after": 10 * time.Second, "failed_attempts": int64(100),
		}}, log.take())
	})
}

func TestARefusalForGoodIsToldAsOne(t *testing.T) {
	var log log
	log.open(t, Options{}).DialFailed(t.Context(), refused, true)
	assert.Equal(t, "pgprod: the server refuses to be connected to, repeating is of no use", log.take()[0]["message"])
}

func TestWhatAnOutageHasHeldBackIsToldBeforeItsEnd(t *testing.T) {
	var log log
	d := log.open(t, Options{})
	d.DialFailed(t.Context(), refused, false)
	for range 4 {
		d.Unserved(t.Context(), Failure{}, time.Second)
	}
	log.take()
	d.DialSucceeded(t.Context())
	lines := log.take()
	assert.Len(t, lines, 2)
	assert.EqualValues(t, 1, lines[0]["repeated"])
	assert.Equal(t, "pgprod: connected again", lines[1]["message"])
}

func TestTheChecksOfHealthHaveOutagesOfTheirOwn(t *testing.T) {
	var log log
	d := log.open(t, Options{})
	now := time.Now()
	d.DialFailed(t.Context(), refused, false)
	log.take()
	d.Unhealthy(t.Context(), now, refused)
	d.Unhealthy(t.Context(), now.Add(time.Second), refused)
	d.DialSucceeded(t.Context())
	log.take()
	d.Healthy(t.Context(), now.Add(2*time.Second))
	d.Healthy(t.Context(), now.Add(3*time.Second))
	assert.Equal(t, []line{{
		"level": slog.LevelInfo, "message": "pgprod: the database is healthy again", "pool": "orders",
		"after": 2 * time.Second, "failed_checks": int64(2),
	}}, log.take())
	d.Unhealthy(t.Context(), now.Add(time.Hour), refused)
	assert.Equal(t, []line{{
		"level": slog.LevelError, "message": "pgprod: the database is unhealthy", "pool": "orders", "error": "connection refused",
	}}, log.take())
	assert.Equal(t, []string{"connect: connection refused", "health: connection refused"}, said(d.Errors()))
}

func TestALostConnectionIsAnEventAndALine(t *testing.T) {
	var log log
	d := log.open(t, Options{})
	d.Lost(Failure{Type: "57P01", Text: "terminated"})
	assert.Equal(t, []string{"invalidate: a connection was lost: terminated"}, said(d.Events()))
	assert.Equal(t, []line{{
		"level": slog.LevelWarn, "message": "pgprod: the server closed a connection, idle ones are replaced", "pool": "orders",
		"error": "terminated",
	}}, log.take())
	d.Silent(Failure{Type: "host_silent", Text: "nothing has come"})
	assert.Equal(t, []line{{
		"level": slog.LevelWarn, "message": "pgprod: the host is silent, its connections are cut", "pool": "orders",
		"error": "nothing has come",
	}}, log.take())
	d.Replaced(Failure{Type: "x", Text: "deposed"})
	assert.Empty(t, log.take())
	assert.Len(t, d.Events(), 3)
}

func TestEachWarningOfSettingsAndPreflightIsALine(t *testing.T) {
	var log log
	d := log.open(t, Options{})
	d.Settings(t.Context(), []string{"one", "two"})
	d.Preflight(t.Context(), []string{"three"})
	d.PreflightFailed(t.Context(), "permission denied")
	warning := func(message string) line { return line{"level": slog.LevelWarn, "message": message, "pool": "orders"} }
	assert.Equal(t, []line{
		warning("pgprod: one"), warning("pgprod: two"), warning("pgprod: preflight: three"),
		{"level": slog.LevelInfo, "message": "pgprod: preflight: the server doesn't tell how it is set up", "pool": "orders",
			"error": "permission denied"},
	}, log.take())
}
