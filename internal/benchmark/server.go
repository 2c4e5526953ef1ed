package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgprod/pgprod/internal/pgtest"
)

const (
	database = "benchmark"
	// sink is the table that inserts go into.
	sink = "sink"
	// itemCount is how many rows the table items has.
	itemCount = 10_000
	// cleanupTimeout bounds each step of leaving nothing behind.
	cleanupTimeout = 10 * time.Second
)

var sinkColumns = []string{"id", "name"}

// schema is what the workloads work on. Half of each page of accounts is left free, so that updates stay on their page
// without a vacuum.
var schema = []string{
	"create table items as select i as id, 'item number ' || i as name from generate_series(1, 10000) i",
	"create unlogged table sink (id int, name text)",
	"create unlogged table notes (id bigint generated always as identity primary key, name text)",
	"create unlogged table accounts (id int primary key, balance bigint not null) with (fillfactor = 50)",
	"insert into accounts select i, 0 from generate_series(0, 127) i",
	"create schema tenant",
	"create table tenant.here as select 7 as id",
	"vacuum analyze",
	"create role app login", // a service isn't a superuser
	"grant usage on schema tenant to app",
	"grant select, insert, update on all tables in schema public, tenant to app",
}

// server is the PostgreSQL to work on.
type server struct {
	*pgtest.Server
	conn    *pgx.Conn // to the database, for what isn't measured
	road    *road     // to the same server, for what is remote
	version string
	clients int // how many names of clients were given away
}

func startServer(ctx context.Context) (_ *server, err error) {
	// Only a server of our own is known to be idle, and on a socket. Its log tells who connected.
	own, err := pgtest.Start(ctx, pgtest.Config{Settings: map[string]string{
		"log_connections": "on", "max_connections": "600", "shared_buffers": "64MB",
	}})
	if err != nil {
		return nil, err
	}
	s := &server{Server: own}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop(ctx))
		}
	}()
	if err := own.Exec(ctx, "create database "+database); err != nil {
		return nil, err
	}
	if s.conn, err = pgx.Connect(ctx, own.SocketDSN(database)); err != nil {
		return nil, err
	}
	if s.road, err = openRoad(own.SocketDSN(database)); err != nil {
		return nil, err
	}
	for _, statement := range schema {
		if _, err := s.conn.Exec(ctx, statement); err != nil {
			return nil, fmt.Errorf("%s: %w", statement, err)
		}
	}
	return s, s.conn.QueryRow(ctx, "show server_version").Scan(&s.version)
}

// stop removes the server, also when ctx has ended.
func (s *server) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	var err error
	if s.road != nil {
		err = s.road.close()
	}
	if s.conn != nil {
		err = errors.Join(err, s.conn.Close(ctx))
	}
	return errors.Join(err, s.Stop(ctx))
}

// clientDSN is the DSN of a new client, by whose name its connections are found in the log.
func (s *server) clientDSN() (name, dsn string) {
	s.clients++
	name = fmt.Sprintf("client%d", s.clients)
	return name, s.dsn(name)
}

// dsn is a service's DSN.
func (s *server) dsn(client string) string {
	return strings.Replace(s.SocketDSN(database), "//postgres@", "//app@", 1) + "&application_name=" + client
}

// connections counts how often a client has connected.
func (s *server) connections(name string) (int, error) {
	log, err := os.ReadFile(s.LogFile())
	if err != nil {
		return 0, err
	}
	return bytes.Count(log, []byte(" database="+database+" application_name="+name+"\n")), nil
}

// empty empties the tables of inserts.
func (s *server) empty(ctx context.Context) error {
	_, err := s.conn.Exec(ctx, "truncate notes, "+sink)
	return err
}
