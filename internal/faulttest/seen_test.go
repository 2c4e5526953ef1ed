package faulttest

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
	"github.com/pgprod/pgprod/internal/pgtest/readings"
)

// ofHosts are the lines of a log that have this text and are about this host.
func (l *logLines) ofHost(text, host string) (found []string) {
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, "pgprod: "+text) && strings.Contains(line, " host="+host+" ") {
			found = append(found, line)
		}
	}
	return found
}

// nameOf is what a server is called as a host.
func nameOf(s *pgtest.Server) string { return net.JoinHostPort(s.Host(), strconv.Itoa(s.Port())) }

// hostSeries are a pool's series about hosts, with the host and the state or role.
func hostSeries(t *testing.T, reader *sdkmetric.ManualReader) map[string]float64 {
	t.Helper()
	found := map[string]float64{}
	readings.Values(t, reader, func(name string, attrs attribute.Set, value float64) {
		if !strings.HasPrefix(name, "pgprod.host.") {
			return
		}
		for _, key := range []attribute.Key{"pgprod.host.name", "pgprod.host.state", "pgprod.host.role"} {
			if v, ok := attrs.Value(key); ok {
				name += " " + v.AsString()
			}
		}
		found[name] = value
	})
	return found
}

func TestAFailoverIsSeenInTheLogInStatusAndInMetrics(t *testing.T) {
	t.Parallel()
	primary, standby := twoServers(t, nil)
	old, next := nameOf(primary), nameOf(standby)
	var log logLines
	reader := sdkmetric.NewManualReader()
	c := newClient(t, hostsDSN("read-write", primary, standby), pgprod.WithLogger(log.logger()),
		pgprod.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))))
	fill(t, c.DB, 3)
	pgtest.Eventually(t, patience, func() bool { return c.host(0).Role == "primary" && c.host(1).Role == "standby" })
	is := c.status().Hosts
	assert.Equal(t, []string{old, "up", next, "up"}, []string{is[0].Host, is[0].State, is[1].Host, is[1].State})
	assert.Equal(t, []int{3, 0}, []int{is[0].Connections, is[1].Connections})
	assert.NotContains(t, log.String(), "a host ", "nothing has changed")

	require.NoError(t, primary.Shutdown(t.Context(), pgtest.Fast))
	require.NoError(t, standby.Promote(t.Context()))
	c.do("insert into writes values (1)")
	pgtest.Eventually(t, patience, func() bool { return c.host(0).State == "down" && c.host(1).Role == "primary" })
	is = c.status().Hosts
	assert.NotEmpty(t, is[0].Error)
	assert.Equal(t, "primary", is[0].Role, "as it last said")
	assert.WithinRange(t, is[0].Since, is[1].Since, time.Now())
	assert.Equal(t, c.status().CheckedIn+c.status().CheckedOut, c.host(1).Connections)

	series := hostSeries(t, reader)
	for name, want := range map[string]float64{
		"pgprod.host.state " + old + " down": 1, "pgprod.host.state " + old + " up": 0, "pgprod.host.state " + next + " up": 1,
		"pgprod.host.role " + next + " primary": 1, "pgprod.host.role " + next + " standby": 0,
		"pgprod.host.connection.count " + old: 0, "pgprod.host.connection.count " + next: float64(c.host(1).Connections),
	} {
		got, ok := series[name]
		assert.True(t, ok && got == want, "%s: %v of %v", name, got, series)
	}
	assert.Positive(t, series["pgprod.host.latency "+next])
	assert.NotContains(t, series, "pgprod.host.latency "+old)

	require.NoError(t, primary.Resume(t.Context())) // as another primary: it doesn't know better
	pgtest.Eventually(t, patience, func() bool { return len(log.ofHost("a host is up again", old)) == 1 })
	require.Len(t, log.ofHost("a host is down", old), 1, log.String())
	assert.Contains(t, log.ofHost("a host is down", old)[0], "level=WARN")
	require.Len(t, log.ofHost("a host has another role", next), 1, log.String())
	assert.Contains(t, log.ofHost("a host has another role", next)[0], "was=standby")
	assert.Empty(t, log.ofHost("a host is down", next))
}

func TestASilentHostIsSeen(t *testing.T) {
	t.Parallel()
	primary, standby := twoServers(t, nil)
	proxy := faultproxy.StartTB(t, primary.DSN(""))
	var log logLines
	dsn := strings.Replace(hostsDSN("any", primary, standby), nameOf(primary), proxy.Addr().String(), 1)
	c := newClient(t, dsn, pgprod.WithLogger(log.logger()))
	page := pgprod.DebugHandler(c.DB)
	tx, err := c.Begin()
	require.NoError(t, err)
	exec(t, tx, "select")
	swallow(t, proxy)
	_, err = tx.Exec("select")
	isSilent(t, err)
	require.Error(t, tx.Rollback())
	pgtest.Eventually(t, patience, func() bool { return c.host(0).State == "down" })
	const unanswered = "is silent|no answer within|timeout|deadline" // whoever has noticed it last, or first
	assert.Regexp(t, unanswered, c.host(0).Error)
	pgtest.Eventually(t, patience, func() bool { return len(log.ofHost("a host is down", proxy.Addr().String())) == 1 })
	assert.Regexp(t, unanswered, log.ofHost("a host is down", proxy.Addr().String())[0])

	assert.NotContains(t, log.String(), "closed a connection", "one line is enough, and it was cut here")

	c.do("select") // elsewhere
	answer := httptest.NewRecorder()
	page.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/", nil))
	assert.Contains(t, answer.Body.String(), "Host "+proxy.Addr().String()+" has been down for")
}

func TestAPoolWithOneHostHasNoSeriesAndNoLinesOfHosts(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	var log logLines
	reader := sdkmetric.NewManualReader()
	c := newClient(t, proxy.DSN(), pgprod.WithLogger(log.logger()),
		pgprod.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))))
	c.do("select")
	require.NoError(t, proxy.Refuse())
	proxy.CloseAll(faultproxy.RST)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	require.Error(t, c.PingContext(ctx))
	require.NoError(t, proxy.Admit())
	pgtest.Eventually(t, patience, func() bool { return c.Ping() == nil })
	assert.Empty(t, hostSeries(t, reader))
	assert.NotContains(t, log.String(), "a host ")
	require.Len(t, c.status().Hosts, 1)
	assert.Equal(t, proxy.Addr().String(), c.host(0).Host)

	tx, err := c.Begin()
	require.NoError(t, err)
	exec(t, tx, "select")
	swallow(t, proxy)
	_, err = tx.Exec("select")
	isSilent(t, err)
	require.Error(t, tx.Rollback())
	assert.Equal(t, 1, strings.Count(log.String(), "the host is silent, its connections are cut"))
}
