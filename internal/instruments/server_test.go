package instruments

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgprod/pgprod/internal/activity"
)

func TestAServerIsNamedAsItWasConfigured(t *testing.T) {
	for _, c := range []struct {
		hosts   []Host
		address string
		port    int // 0: none is given
	}{
		{nil, "", 0},
		{[]Host{{"db", 5432}}, "db", 0},
		{[]Host{{"db", 5433}}, "db", 5433},
		{[]Host{{"2001:db8::1", 5433}}, "2001:db8::1", 5433},
		{[]Host{{"/run/postgresql", 5432}}, "/run/postgresql", 0},
		{[]Host{{"/run/postgresql", 5433}}, "/run/postgresql", 5433},
		{[]Host{{"b", 5432}, {"a", 5432}}, "b,a", 0},
		{[]Host{{"2001:db8::1", 5432}, {"a", 5432}}, "2001:db8::1,a", 0},
		{[]Host{{"b", 5432}, {"a", 6432}}, "b:5432,a:6432", 0},
		{[]Host{{"b", 6432}, {"a", 6432}}, "b:6432,a:6432", 0},
		{[]Host{{"b", 6432}, {"2001:db8::1", 5432}}, "b:6432,[2001:db8::1]:5432", 0},
	} {
		address, port := Server{Hosts: c.hosts}.target()
		assert.Equal(t, c.address, address, "%v", c.hosts)
		assert.Equal(t, c.port, port, "%v", c.hosts)
	}
}

func TestWhatIsNotKnownOfAServerIsLeftOut(t *testing.T) {
	keys := func(s Server) (keys []attribute.Key) {
		for _, a := range s.attributes() {
			keys = append(keys, a.Key)
		}
		return keys
	}
	assert.Equal(t, []attribute.Key{"db.system.name"}, keys(Server{}))
	assert.Equal(t, []attribute.Key{"db.system.name", "server.address"}, keys(oneHost("db", 5432, "")))
	assert.Equal(t, []attribute.Key{"db.system.name", "db.namespace", "server.address", "server.port"}, keys(oneHost("db", 1, "n")))
}

func TestAPeerIsAnAddressOfTheNetworkOrASocket(t *testing.T) {
	_, pipe := net.Pipe()
	for _, c := range []struct {
		addr net.Addr
		want peer
	}{
		{nil, peer{}},
		{&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 5432}, peer{"10.0.0.1", 5432}},
		{&net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 5433}, peer{"2001:db8::1", 5433}},
		{&net.UnixAddr{Name: "/run/postgresql/.s.PGSQL.5432", Net: "unix"}, peer{"/run/postgresql/.s.PGSQL.5432", 0}},
		{pipe.RemoteAddr(), peer{}},
	} {
		assert.Equal(t, c.want, peerAt(c.addr))
	}
}

// at is the Target of a connection to an address of the network.
func at(in *Instruments, ip string) *Target {
	return in.Target(&net.TCPAddr{IP: net.ParseIP(ip), Port: 5432})
}

func TestAStatementThatIsTriedElsewhereHasThatPeerAndTheSameServer(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	in, err := New(Options{TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)), PoolName: "p",
		Server: Server{Hosts: []Host{{"one", 5432}, {"other", 5432}}}}, func() PoolState { return PoolState{} })
	require.NoError(t, err)
	_, op := at(in, "10.0.0.1").Begin(t.Context(), "select 1")
	ctx := op.Again(t.Context(), at(in, "10.0.0.2"))
	op.End(ctx, 1, nil, "")
	_, op = at(in, "10.0.0.2").Begin(t.Context(), "select 1")
	op.End(t.Context(), 1, nil, "")
	_, op = at(in, "10.0.0.1").Begin(t.Context(), "select 1")
	op.End(t.Context(), 1, nil, "")
	var peers []string
	for _, s := range spans.Ended() {
		attrs := attribute.NewSet(s.Attributes()...)
		address, _ := attrs.Value("server.address")
		assert.Equal(t, "one,other", address.AsString())
		peer, _ := attrs.Value("network.peer.address")
		peers = append(peers, peer.AsString())
	}
	assert.Equal(t, []string{"10.0.0.2", "10.0.0.2", "10.0.0.1"}, peers)
}

func TestTheOptionsOfSpansAreKeptForAFewPeers(t *testing.T) {
	target, _ := newTarget(t)
	stmt := target.texts.Get("select a from b").Value
	for n := range 3 * maxPeers {
		p := peer{"10.0.0.1", 5000 + n}
		first := stmt.startAt(p)
		assert.Same(t, &first[0], &stmt.startAt(p)[0])
		config := trace.NewSpanStartConfig(first...)
		assert.Contains(t, config.Attributes(), attribute.Int("network.peer.port", p.port))
		assert.LessOrEqual(t, len(*stmt.starts.Load()), maxPeers)
	}
}

func TestAFailoverMakesNoNewSeries(t *testing.T) {
	target, reader := newTarget(t)
	for _, ip := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"} {
		_, op := at(target.in, ip).Begin(t.Context(), "select a from b")
		op.End(t.Context(), -1, nil, "")
	}
	assert.Equal(t, 1, countSeries(t, reader, "db.client.operation.duration"))
}

func TestDialsAndPreparesAreNoOperationsInMetrics(t *testing.T) {
	target, reader := newTarget(t)
	target.in.tracers.setProvider(sdktrace.NewTracerProvider())
	_, dial := target.BeginConnect(t.Context())
	dial.Reached(at(target.in, "10.0.0.1"))
	dial.End(t.Context(), -1, nil, "")
	_, prepare := target.Prepared(t.Context(), "select a from b", time.Now())
	prepare.End(t.Context(), -1, nil, "")
	assert.Zero(t, countSeries(t, reader, "db.client.operation.duration"))
}

func TestABatchOfNothingHasTheSizeZero(t *testing.T) {
	target, _ := newTarget(t)
	spans := tracetest.NewSpanRecorder()
	target.in.tracers.setProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
	for _, texts := range [][]string{nil, {"select 1"}, {"select 1", "select 2"}} {
		_, op := target.BeginBatch(t.Context(), texts)
		op.End(t.Context(), -1, nil, "")
	}
	var sizes []any
	for _, s := range spans.Ended() {
		attrs := attribute.NewSet(s.Attributes()...)
		size, ok := attrs.Value("db.operation.batch.size")
		if !ok {
			sizes = append(sizes, "none")
			continue
		}
		sizes = append(sizes, size.AsInt64())
	}
	assert.Equal(t, []any{int64(0), "none", int64(2)}, sizes)
}

func TestAllMetricsOfAPoolHaveItsServer(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	in, err := New(Options{MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)), PoolName: "p",
		Server: Server{Hosts: []Host{{"db", 6432}}, Namespace: "shop"}}, func() PoolState {
		return PoolState{Max: 1, Closed: map[string]int64{"idle": 1}, Unknown: map[string]int64{"reply_lost": 1},
			BegunAgain: map[string]int64{"40001": 1}, ServerLimit: 1, Health: activity.Healthy}
	})
	require.NoError(t, err)
	in.Created(t.Context(), 1)
	in.Waited(t.Context(), 1)
	in.Used(t.Context(), 1)
	_, op := in.Target(nil).Begin(t.Context(), "select 1")
	op.End(t.Context(), 1, nil, "")
	var rm metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &rm))
	series := 0
	check := func(name string, attrs attribute.Set) {
		series++
		for key, want := range map[attribute.Key]attribute.Value{
			"db.system.name": attribute.StringValue("postgresql"), "db.namespace": attribute.StringValue("shop"),
			"server.address": attribute.StringValue("db"), "server.port": attribute.IntValue(6432),
		} {
			got, _ := attrs.Value(key)
			assert.Equal(t, want, got, "%s of %s", key, name)
		}
	}
	for _, m := range rm.ScopeMetrics[0].Metrics {
		switch data := m.Data.(type) {
		case metricdata.Sum[int64]:
			for _, p := range data.DataPoints {
				check(m.Name, p.Attributes)
			}
		case metricdata.Gauge[int64]:
			for _, p := range data.DataPoints {
				check(m.Name, p.Attributes)
			}
		case metricdata.Histogram[float64]:
			for _, p := range data.DataPoints {
				check(m.Name, p.Attributes)
			}
		case metricdata.Histogram[int64]:
			for _, p := range data.DataPoints {
				check(m.Name, p.Attributes)
			}
		}
	}
	assert.Equal(t, 22, series)
}
