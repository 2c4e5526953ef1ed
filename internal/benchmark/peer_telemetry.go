package main

import (
	"context"
	"database/sql"
	"sync"

	xsam "github.com/XSAM/otelsql"
	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	uptrace "github.com/uptrace/opentelemetry-go-extra/otelsql"
	nhatthm "go.nhat.io/otelsql"
	"go.opentelemetry.io/otel/attribute"
)

var (
	systemName = attribute.String("db.system.name", "postgresql")
	system     = attribute.String("db.system", "postgresql") // before the stable conventions
)

// openXSAM: https://github.com/XSAM/otelsql#usage.
func openXSAM(_ context.Context, t target) (client, error) {
	options := []xsam.Option{xsam.WithAttributes(systemName)}
	if t.tracer != nil {
		options = append(options, xsam.WithTracerProvider(t.tracer), xsam.WithMeterProvider(t.meter))
	}
	db, err := xsam.Open("pgx", t.dsn, options...)
	if err != nil {
		return nil, err
	}
	registration, err := xsam.RegisterDBStatsMetrics(db, options...)
	if err != nil {
		return nil, err
	}
	return &sqlClient{db: limit(db, t), copier: stdlibCopy, after: func() { _ = registration.Unregister() }}, nil
}

// openUptrace: https://github.com/uptrace/opentelemetry-go-extra/tree/main/otelsql#usage.
func openUptrace(_ context.Context, t target) (client, error) {
	options := []uptrace.Option{uptrace.WithAttributes(system), uptrace.WithDBName(database)}
	if t.tracer != nil {
		options = append(options, uptrace.WithTracerProvider(t.tracer), uptrace.WithMeterProvider(t.meter))
	}
	db, err := uptrace.Open("pgx", t.dsn, options...)
	if err != nil {
		return nil, err
	}
	return &sqlClient{db: limit(db, t), copier: stdlibCopy}, nil
}

// nhatthmDrivers are the registered drivers by level of telemetry: a process can register only 150.
var nhatthmDrivers = struct {
	sync.Mutex // guards names
	names      map[string]string
}{names: map[string]string{}}

func nhatthmDriver(t telemetry) (string, error) {
	nhatthmDrivers.Lock()
	defer nhatthmDrivers.Unlock()
	if name := nhatthmDrivers.names[t.level]; name != "" {
		return name, nil
	}
	// TraceRowsClose and TraceRowsAffected, which its example has too, add spans that no other peer makes.
	options := []nhatthm.DriverOption{
		nhatthm.AllowRoot(), nhatthm.TraceQueryWithoutArgs(), nhatthm.WithSystem(system), nhatthm.WithDatabaseName(database),
	}
	if t.tracer != nil {
		options = append(options, nhatthm.WithTracerProvider(t.tracer), nhatthm.WithMeterProvider(t.meter))
	}
	name, err := nhatthm.Register("pgx", options...)
	nhatthmDrivers.names[t.level] = name
	return name, err
}

// openNhatthm: https://github.com/nhatthm/otelsql#usage. Its RecordStats can't be undone, and would cost nothing here.
func openNhatthm(_ context.Context, t target) (client, error) {
	name, err := nhatthmDriver(t.telemetry)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open(name, t.dsn)
	if err != nil {
		return nil, err
	}
	return &sqlClient{db: limit(db, t), copier: stdlibCopy}, nil
}

// openOtelpgx: https://github.com/exaring/otelpgx#usage, on database/sql as the others are, by
// https://pkg.go.dev/github.com/jackc/pgx/v5/stdlib#OpenDB.
func openOtelpgx(_ context.Context, t target) (client, error) {
	cfg, err := pgx.ParseConfig(t.dsn)
	if err != nil {
		return nil, err
	}
	var options []otelpgx.Option
	if t.tracer != nil {
		options = append(options, otelpgx.WithTracerProvider(t.tracer), otelpgx.WithMeterProvider(t.meter))
	}
	cfg.Tracer = otelpgx.NewTracer(options...)
	return &sqlClient{db: limit(stdlib.OpenDB(*cfg), t), copier: stdlibCopy}, nil
}
