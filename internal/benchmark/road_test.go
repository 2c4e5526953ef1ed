package main

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func serverTB(t testing.TB) *server {
	t.Helper()
	s, err := startServer(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// byRoad connects to the server through its road.
func byRoad(t testing.TB, s *server) *pgx.Conn {
	t.Helper()
	name, dsn := s.clientDSN()
	dsn, err := s.road.through(dsn)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	if n, err := s.connections(name); n != 1 || err != nil {
		t.Fatalf("%d connections of %s in the log, %v", n, name, err)
	}
	return conn
}

func TestTheRoadIsAsLongAsItSaysEachWay(t *testing.T) {
	conn := byRoad(t, serverTB(t))
	for range 20 {
		begin := time.Now()
		if err := conn.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took < 2*oneWay {
			t.Errorf("a round trip of %v", took)
		}
	}
}

func TestTheRoadLosesNothingAndKeepsTheOrder(t *testing.T) {
	s := serverTB(t)
	conn := byRoad(t, s)
	rows := sinkRows()
	if n, err := conn.CopyFrom(t.Context(), pgx.Identifier{sink}, sinkColumns, pgx.CopyFromRows(rows)); n != insertRows || err != nil {
		t.Fatalf("%d rows, %v", n, err)
	}
	found, err := conn.Query(t.Context(), "select id, repeat(name, 100) from items order by id")
	if err != nil {
		t.Fatal(err)
	}
	var id, next int64
	var name string
	_, err = pgx.ForEachRow(found, []any{&id, &name}, func() error {
		next++
		return expect("items", id, next, nil)
	})
	if err != nil || next != itemCount {
		t.Errorf("%d rows, %v", next, err)
	}
}

func TestTheRoadCarriesTheEndOfAConnection(t *testing.T) {
	s := serverTB(t)
	conn := byRoad(t, s)
	pid := int(conn.PgConn().PID())
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(cleanupTimeout); ; {
		var left int
		if err := s.conn.QueryRow(t.Context(), "select count(*) from pg_stat_activity where pid = $1", pid).Scan(&left); err != nil {
			t.Fatal(err)
		}
		if left == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the server's session doesn't end")
		}
	}
	conn = byRoad(t, s)
	if _, err := s.conn.Exec(t.Context(), "select pg_terminate_backend($1)", conn.PgConn().PID()); err != nil {
		t.Fatal(err)
	}
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("the server ended the session, and the client can use it")
	}
}

// BenchmarkRoad is what a round trip takes by the road, and what it takes without it. The difference should be little more
// than both ways.
func BenchmarkRoad(b *testing.B) {
	s := serverTB(b)
	for name, conn := range map[string]*pgx.Conn{"there": byRoad(b, s), "direct": s.conn} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := conn.Ping(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
