package pool

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/hosts"
	"github.com/pgprod/pgprod/internal/settings"
)

// told opens a pool that connects nowhere, and returns it with its log; its lines have no times, and apostrophes for quotes.
func told(t *testing.T, dsn string) (p *Pool, log func() []string) {
	t.Helper()
	cfg, err := settings.Load(dsn, nil, settings.Values{}, "")
	require.NoError(t, err)
	var mu sync.Mutex
	var text bytes.Buffer
	p, err = New(cfg, Hooks{Logger: slog.New(slog.NewTextHandler(locked{&mu, &text}, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == "time" || a.Key == "pool" || a.Key == "after" {
				return slog.Attr{}
			}
			return a
		},
	}))})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	return p, func() (lines []string) {
		mu.Lock()
		defer mu.Unlock()
		for line := range strings.Lines(text.String()) {
			lines = append(lines, strings.ReplaceAll(strings.TrimSpace(line), `"`, "'"))
		}
		text.Reset()
		return lines
	}
}

// locked is a buffer that goroutines may write to.
type locked struct {
	mu *sync.Mutex
	to *bytes.Buffer
}

func (l locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(b)
}

var errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}

func TestTheLogHasALineWhenAHostGoesComesBackOrChangesItsRole(t *testing.T) {
	p, log := told(t, "postgres://app@a:5432,b:6432/shop?sslmode=require")
	a := p.dialer.Hosts().Hosts()[0]
	a.Serves(hosts.Primary, 0)
	a.Serves(hosts.Primary, 0)
	a.Lost()
	a.Serves(hosts.Primary, 0)
	assert.Empty(t, log(), "it was not down before")
	a.Lost()
	a.Fails(errRefused)
	a.Fails(errRefused)
	a.Serves(hosts.Standby, 0)
	a.HasRole(hosts.Primary)
	assert.Equal(t, []string{
		"level=WARN msg='pgprod: a host is down' host=a:5432 role=primary error='dial tcp: connection refused' connections=0",
		"level=INFO msg='pgprod: a host is up again' host=a:5432 role=standby",
		"level=INFO msg='pgprod: a host has another role' host=a:5432 role=standby was=primary",
		"level=INFO msg='pgprod: a host has another role' host=a:5432 role=primary was=standby",
	}, log())
}

func TestOfASingleHostTheLogSaysNoMoreThanOfItsDials(t *testing.T) {
	p, log := told(t, "postgres://app@a:5432/shop?sslmode=require")
	a := p.dialer.Hosts().Hosts()[0]
	a.Fails(errRefused)
	a.Serves(hosts.Standby, 0)
	a.HasRole(hosts.Primary)
	assert.Empty(t, log())
}

func TestStatusSaysWhyAHostIsDownWithoutWhatAFunctionRaises(t *testing.T) {
	p, _ := told(t, "postgres://app@a:5432,b:6432/shop?sslmode=require")
	a, b := p.dialer.Hosts().Hosts()[0], p.dialer.Hosts().Hosts()[1]
	a.Fails(&pgconn.PgError{Code: "P0001", Message: "the card 4711 is bad", Routine: "exec_stmt_raise"})
	b.Fails(errFoundDead)
	s := p.Status().Hosts
	require.Len(t, s, 2)
	for i := range s {
		assert.False(t, s[i].Since.IsZero())
		s[i].Since = time.Time{}
	}
	assert.Equal(t, []activity.HostStatus{
		{Host: "a:5432", State: "down", Error: "a function raised an exception"},
		{Host: "b:6432", State: "down", Error: errFoundDead.Error()},
	}, s)
}
