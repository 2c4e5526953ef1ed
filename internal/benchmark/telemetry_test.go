package benchmark

import (
	"context"
	"database/sql"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/XSAM/otelsql"
	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	uptrace "github.com/uptrace/opentelemetry-go-extra/otelsql"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// A telemetry is how much is reported.
type telemetry struct {
	name   string
	tracer trace.TracerProvider
	meter  metric.MeterProvider
}

// drop is where sampled spans end: the cost of exporting them is the same for all.
type drop struct{}

func (drop) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (drop) OnEnd(sdktrace.ReadOnlySpan)                     {}
func (drop) Shutdown(context.Context) error                  { return nil }
func (drop) ForceFlush(context.Context) error                { return nil }

func telemetries() []telemetry {
	meter := func() metric.MeterProvider {
		return sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	}
	sampled := func(s sdktrace.Sampler) trace.TracerProvider {
		return sdktrace.NewTracerProvider(sdktrace.WithSampler(s), sdktrace.WithSpanProcessor(drop{}))
	}
	return []telemetry{
		{"noSDK", tracenoop.NewTracerProvider(), metricnoop.NewMeterProvider()},
		{"neverSampled", sampled(sdktrace.NeverSample()), meter()},
		{"everything", sampled(sdktrace.AlwaysSample()), meter()},
	}
}

// A peer opens a pool of ten connections.
type peer struct {
	name string
	open func(b *testing.B, dsn string, t telemetry) *sql.DB
}

var peers = []peer{
	{"pgx-without", func(b *testing.B, dsn string, _ telemetry) *sql.DB { return tuned(must(sql.Open("pgx", dsn))(b)) }},
	{"pgprod", func(b *testing.B, dsn string, t telemetry) *sql.DB {
		return must(pgprod.Open(dsn, pgprod.WithPoolSize(10), pgprod.WithMaxOverflow(0),
			pgprod.WithTracerProvider(t.tracer), pgprod.WithMeterProvider(t.meter)))(b)
	}},
	{"uptrace-otelsql", func(b *testing.B, dsn string, t telemetry) *sql.DB {
		return tuned(must(uptrace.Open("pgx", dsn, uptrace.WithTracerProvider(t.tracer), uptrace.WithMeterProvider(t.meter)))(b))
	}},
	{"XSAM-otelsql", func(b *testing.B, dsn string, t telemetry) *sql.DB {
		return tuned(must(otelsql.Open("pgx", dsn, otelsql.WithTracerProvider(t.tracer), otelsql.WithMeterProvider(t.meter),
			otelsql.WithAttributes(attribute.String("db.system.name", "postgresql"))))(b))
	}},
	{"otelpgx", func(b *testing.B, dsn string, t telemetry) *sql.DB {
		cfg := must(pgx.ParseConfig(dsn))(b)
		cfg.Tracer = otelpgx.NewTracer(otelpgx.WithTracerProvider(t.tracer), otelpgx.WithMeterProvider(t.meter))
		return tuned(stdlib.OpenDB(*cfg))
	}},
}

func tuned(db *sql.DB) *sql.DB {
	db.SetMaxOpenConns(10)
	db.SetMaxIdleConns(10)
	return db
}

func must[T any](v T, err error) func(*testing.B) T {
	return func(b *testing.B) T {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
		return v
	}
}

// BenchmarkTelemetry is one query at a time, over a unix socket. cpu-ns/op is what the client's process used, the
// runtime's share included.
func BenchmarkTelemetry(b *testing.B) {
	server := pgtest.Shared(b)
	dsn := server.SocketDSN(pgtest.DatabaseName(pgtest.NewDatabase(b)))
	for _, t := range telemetries() {
		for _, p := range peers {
			b.Run(t.name+"/"+p.name, func(b *testing.B) {
				db := p.open(b, dsn, t)
				defer db.Close()
				ctx, span := t.tracer.Tracer("benchmark").Start(context.Background(), "request")
				defer span.End()
				query(b, ctx, db)
				b.ReportAllocs()
				before := cpu(b)
				for b.Loop() {
					query(b, ctx, db)
				}
				b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

func query(b *testing.B, ctx context.Context, db *sql.DB) {
	var n int
	if err := db.QueryRowContext(ctx, "select $1::int", 1).Scan(&n); err != nil {
		b.Fatal(err)
	}
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
