// Package example has invented pools for the tests of the live page.
package example

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/pgprod/pgprod/internal/activity"
)

// Calm is a pool in which all is well.
func Calm(now time.Time) (activity.Snapshot, activity.Health) {
	s := activity.Snapshot{At: now, Status: activity.Status{PoolName: "reports", PoolSize: 10, MaxOverflow: 5, CheckedIn: 2}}
	s.Status.Hosts = hosts(now)[:1]
	return s, activity.Health{
		Status: activity.Healthy, Database: "connected", Latency: 840 * time.Microsecond, ServerVersion: "17.6", InRecovery: true,
	}
}

// Trouble is a pool at its limit: callers wait, two connections have leaked, statements fail.
func Trouble(now time.Time) (activity.Snapshot, activity.Health) {
	s := activity.Snapshot{
		At: now,
		Status: activity.Status{
			PoolName: "shop-primary", PoolSize: 20, MaxOverflow: 10, CheckedOut: 28, CheckedIn: 2, Overflow: 10,
			Waiting: 12, Connecting: 1, Utilisation: 28.0 / 30, PeakCheckedOut: 30, PeakUtilisation: 1,
			Waits: 18422, WaitTime: 18422 * 231 * time.Millisecond, Timeouts: 141, FailedConnects: 3, CommitsUnknown: 1,
			Closed: map[string]int64{"lifetime": 1204, "overflow": 12345, "idle": 37, "invalid": 9, "dirty": 2},
			Hosts:  hosts(now),
		},
		BegunAgain: map[string]int64{"40001": 1204, "40P01": 37, "connection_lost": 8},
		Saved:      activity.Saved{Begin: 184220, Settings: 41003, Cleaning: 1204, Keys: 37},
		History:    history(now), Holders: holders(now), Blocking: activity.TreeOf(holders(now)), Slow: slow(now),
		Statements: statements(), Errors: failures(now), Events: happened(now), Settings: settings(), Repeated: repeated(now),
		Warnings: []string{
			"max_connections of the server is 100, of which 97 are taken: pool_size + max_overflow = 30 times 4 instances doesn't fit",
			"idle_in_transaction_session_timeout is 0: a forgotten transaction holds its locks for ever",
		},
	}
	return s, activity.Health{
		Status: activity.Degraded, Database: "connected", Reason: "28 of 30 connections are in use and 12 callers wait",
		Latency: 3400 * time.Microsecond, ServerVersion: "17.6",
	}
}

func hosts(now time.Time) []activity.HostStatus {
	return []activity.HostStatus{
		{
			Host: "db-primary.internal.example:5432", Role: "primary", State: "up", Since: now.Add(-26 * time.Hour),
			Latency: 3400 * time.Microsecond, Connections: 30,
		},
		{
			Host: "db-standby.internal.example:5432", Role: "standby", State: "down", Since: now.Add(-14 * time.Minute),
			Latency: 2100 * time.Microsecond, Error: "dial tcp 10.0.3.17:5432: connect: connection refused",
		},
		{Host: "db-spare.internal.example:5432", State: "unknown"},
	}
}

func history(now time.Time) []activity.Sample {
	all := make([]activity.Sample, activity.Samples)
	for i := range all {
		busy := 9 + 3*math.Sin(float64(i)/9) + 2*math.Sin(float64(i)/2.3) + math.Max(0, float64(i-80))*0.7
		all[i] = activity.Sample{At: now.Add(-time.Duration(len(all)-1-i) * activity.Interval), CheckedOut: min(30, int(busy)), Timeouts: 104}
		if i > 104 {
			all[i].Waiting = min(14, (i-104)/3)
			all[i].Timeouts = 104 + int64(max(0, i-112))
		}
	}
	last := &all[len(all)-1]
	last.CheckedOut, last.Waiting = 28, 12
	return all
}

func holders(now time.Time) []activity.Holder {
	stack := []string{
		"github.com/acme/shop/internal/export.(*Job).openCursor /src/shop/internal/export/cursor.go:118",
		"github.com/acme/shop/internal/export.(*Job).Run /src/shop/internal/export/job.go:74",
		"github.com/acme/shop/internal/scheduler.(*Worker).loop.func2 /src/shop/internal/scheduler/worker.go:203",
		"runtime.goexit /usr/local/go/src/runtime/asm_amd64.s:1693",
	}
	all := []activity.Holder{
		{Held: 14*time.Minute + 12*time.Second, Leak: true, Statement: "SELECT orders order_lines", PID: 48121, Stack: stack},
		{Held: 9*time.Minute + 41*time.Second, Leak: true, Statement: "", PID: 48377, Stack: stack},
	}
	for i := range 26 {
		all = append(all, activity.Holder{
			Held: 8200*time.Millisecond - time.Duration(i)*310*time.Millisecond, Running: i%5 != 4,
			Statement: summaries[i%len(summaries)], PID: uint32(50210 + 7*i),
		})
	}
	for i := range all {
		if all[i].Running {
			all[i].Runs = all[i].Held * 9 / 10
		}
	}
	wait(all, now, stack)
	return all
}

func repeated(now time.Time) []activity.Repetition {
	all := []activity.Repetition{
		{Summary: "SELECT order_lines", Caller: "shop.(*Cart).Load cart.go:52", Times: 1204, Found: 37},
		{Summary: "INSERT sessions", Caller: "shop.(*Importer).Run importer.go:118", Times: 10, Found: 1},
	}
	for i := range all {
		all[i].Stack = []string{all[i].Caller, "main.main main.go:31"}
		all[i].First, all[i].Last = now.Add(-time.Hour), now.Add(-time.Minute)
	}
	return all
}

// wait has some holders wait: two for one of the pool's own, of which one blocks another program's session that blocks a
// third; one for a migration, and one for itself.
func wait(all []activity.Holder, now time.Time, stack []string) {
	row, table := activity.Wait{Type: "Lock", Event: "transactionid"}, activity.Wait{Type: "Lock", Event: "relation"}
	leaked := activity.Blocker{
		PID: 48121, Kind: "client backend", Application: "shop", User: "shop_service", State: "idle in transaction",
		InState: 14 * time.Minute, InTransaction: 14*time.Minute + 12*time.Second,
		Own: &activity.Own{Held: 14*time.Minute + 12*time.Second, Summary: "SELECT orders order_lines", Stack: stack},
	}
	second := activity.Blocker{
		PID: all[2].PID, Kind: "client backend", Application: "shop", User: "shop_service", State: "active", InState: 7 * time.Second,
		InTransaction: 9 * time.Second, Wait: row, Own: &activity.Own{Held: all[2].Held, Running: true, Summary: all[2].Statement},
	}
	reports := activity.Blocker{
		PID: 51877, Kind: "client backend", Application: "nightly reports", User: "analyst", State: "active", InState: 5 * time.Second,
		InTransaction: 90 * time.Minute, Wait: row,
	}
	migration := activity.Blocker{
		PID: 52001, Kind: "client backend", Application: "migrate", User: "owner", State: "idle in transaction",
		InState: 31 * time.Second, InTransaction: 33 * time.Second,
	}
	for i, c := range map[int]activity.Cause{
		2: {Wait: row, Chain: []activity.Blocker{leaked}},
		4: {Wait: row, Chain: []activity.Blocker{reports, second, leaked}},
		5: {Wait: row, Chain: []activity.Blocker{leaked}, Itself: true},
		7: {Wait: table, Chain: []activity.Blocker{migration}, Others: 1},
		8: {Wait: activity.Wait{Type: "IO", Event: "DataFileRead"}},
	} {
		c.At, c.After, c.State = now.Add(-2*time.Second), all[i].Runs-2*time.Second, activity.Waiting
		all[i].Cause, all[i].Found, all[i].Stack = &c, c.String(), stack
		all[i].TraceID = fmt.Sprintf("4bf92f3577b34da6a3ce929d0e0e47%02x", i)
	}
}

func slow(now time.Time) []activity.SlowStatement {
	cause := activity.Cause{
		After: 4 * time.Second, State: activity.Waiting, Wait: activity.Wait{Type: "Lock", Event: "relation"},
		Chain: []activity.Blocker{{PID: 51102, Kind: "client backend", Application: "migrate", State: "idle in transaction", InState: 6 * time.Second}},
	}
	return []activity.SlowStatement{
		{
			At: now.Add(-9 * time.Second), Summary: "UPDATE inventory", Took: 10 * time.Second, Server: 10 * time.Second, Failed: "57014", Cause: &cause, Found: cause.String(),
			TraceID: "8d3c1ab5577b34da6a3ce929d0e0e4736"[:32],
		},
		{At: now.Add(-4 * time.Minute), Summary: "SELECT orders order_lines", Took: 2100 * time.Millisecond, Waited: 340 * time.Millisecond, Rows: 12034,
			Server: 300 * time.Millisecond, Read: 1800 * time.Millisecond,
		},
	}
}

var summaries = []string{
	"UPDATE inventory", "SELECT customers", "INSERT order_lines", "SELECT sessions", "DELETE carts",
	"WITH recent AS SELECT orders order_lines products product_translations warehouses warehouse_stock suppliers supplier_contracts price_lists price_list_entries",
	"SELECT products categories", "COMMIT", "SELECT pg_advisory_xact_lock",
}

const plan = `Update on shop.inventory i  (cost=0.43..1204.13 rows=0 width=0)
  ->  Nested Loop  (cost=0.43..1204.13 rows=120 width=46)
        Output: (i.stock - l.quantity), i.ctid, l.ctid
        ->  Seq Scan on shop.order_lines l  (cost=0.00..189.00 rows=120 width=14)
              Output: l.quantity, l.ctid, l.product_id
              Filter: (l.order_id = $1)
        ->  Index Scan using inventory_pkey on shop.inventory i  (cost=0.43..8.45 rows=1 width=14)
              Output: i.stock, i.ctid, i.product_id
              Index Cond: (i.product_id = l.product_id)
              Filter: (i.warehouse = '?'::text)`

func statements() []activity.Statement {
	all := make([]activity.Statement, 63)
	for i := range all {
		p50 := time.Duration(180+i*i*37) * time.Microsecond
		n := int64(90400 / (i + 1))
		summary := summaries[i%len(summaries)]
		if i >= len(summaries) {
			summary += fmt.Sprintf(" shard_%02d", i)
		}
		all[i] = activity.Statement{
			Summary: summary, Count: n, Rows: n * int64(1+i%7), P50: p50, P95: 3 * p50, P99: time.Duration(4+i%5) * p50,
			Max: 12 * p50, Total: time.Duration(n) * p50 * 13 / 10,
		}
		all[i].Waited, all[i].Server, all[i].Read = all[i].Total/time.Duration(2+i%9), all[i].Total*8/10, all[i].Total/8
		if i%6 == 1 {
			all[i].Errors = int64(141 / (i + 1))
		}
	}
	slices.SortFunc(all, func(a, b activity.Statement) int { return int(b.Total - a.Total) })
	explained := func(s activity.Statement) bool { return strings.HasPrefix(s.Summary, "UPDATE inventory") }
	all[slices.IndexFunc(all, explained)].Plan = &activity.Plan{Took: 4200 * time.Millisecond, QueryID: -8117024713920338221, Text: plan}
	locked := func(s activity.Statement) bool { return strings.HasPrefix(s.Summary, "DELETE carts") }
	all[slices.IndexFunc(all, locked)].Plan = &activity.Plan{
		Took: 1300 * time.Millisecond, Reason: "something it needs was locked for longer than 100ms",
	}
	return all
}

func failures(now time.Time) []activity.Event {
	all := []activity.Event{
		{At: now.Add(-4 * time.Second), First: now.Add(-2 * time.Minute), Kind: "no connection", Count: 37, Text: "pgprod: no connection within pool_timeout (30s): 30 of 30 in use, 13 waiting"},
		{At: now.Add(-95 * time.Second), Kind: "40P01", Count: 1, Text: "UPDATE inventory: ERROR: deadlock detected (SQLSTATE 40P01)"},
		{At: now.Add(-12 * time.Minute), Kind: "57014", Count: 4, Text: "SELECT orders order_lines: ERROR: canceling statement due to user request (SQLSTATE 57014); command_timeout (30s) is over"},
		{At: now.Add(-26 * time.Hour), Kind: "connect", Count: 3, Text: "dial tcp 10.0.3.17:5432: connect: connection refused"},
		{
			At: now.Add(-27 * time.Hour), Kind: "statement", Count: 204, Warning: true,
			Text: `insert users: duplicate key value violates unique constraint "users_email" (SQLSTATE 23505)`,
		},
	}
	for i := range all {
		if all[i].First.IsZero() {
			all[i].First = all[i].At
		}
	}
	return all
}

func happened(now time.Time) []activity.Event {
	all := []activity.Event{{At: now.Add(-800 * time.Millisecond), Kind: "connect", Text: "backend 50399 in 21 ms", Count: 1}}
	for i := range 9 {
		reason := []string{"overflow", "lifetime", "overflow", "invalid"}[i%4]
		all = append(all, activity.Event{
			At: now.Add(-time.Duration(3+i*17) * time.Second), Kind: "close", Text: fmt.Sprintf("backend %d: %s", 50390-i*3, reason), Count: 1,
		})
	}
	return all
}

func settings() []activity.Setting {
	return []activity.Setting{
		{Key: "host", Value: "db-primary.internal.example:5432,db-standby.internal.example:5432,db-spare.internal.example:5432", Source: "connection"},
		{Key: "database", Value: "shop", Source: "connection"},
		{Key: "user", Value: "shop_service", Source: "connection"},
		{Key: "sslmode", Value: "verify-full", Source: "connection"},
		{Key: "target_session_attrs", Value: "read-write", Source: "connection"},
		{Key: "profile", Value: "medium", Source: "default"},
		{Key: "pool_size", Value: "20", Source: "profile"},
		{Key: "max_overflow", Value: "10", Source: "profile"},
		{Key: "pool_timeout", Value: "30s", Source: "default"},
		{Key: "pool_recycle", Value: "30m", Source: "default"},
		{Key: "pool_name", Value: "shop-primary", Source: "DSN"},
		{Key: "command_timeout", Value: "10s", Source: "environment"},
		{Key: "leak_detection", Value: "1m", Source: "option"},
		{Key: "password_file", Value: "", Source: "default"},
		{Key: "server_settings", Value: "jit=off,random_page_cost=1.1,effective_cache_size=1GB,idle_in_transaction_session_timeout=300000,application_name=shop", Source: "default"},
	}
}
