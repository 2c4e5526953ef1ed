package incidents

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// loggingServer is a server that logs every statement, with the application that has sent it.
func loggingServer(t *testing.T) *pgtest.Server {
	return pgtest.StartTB(t, pgtest.Config{Settings: map[string]string{"log_statement": "all"}})
}

// openQuietly opens a pool in which nothing but statements sends anything: nobody asks for its health.
func openQuietly(t *testing.T, dsn, application string, size int, slow time.Duration) *sql.DB {
	db, err := pgprod.Open(pgtest.With(dsn, "application_name", application), pgprod.WithPoolSize(size),
		pgprod.WithMaxOverflow(0), pgprod.WithSlowQuery(slow), pgprod.WithCommandTimeout(10*patience),
		pgprod.WithPreflight(false), pgprod.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return db
}

// sentToAsk are the lines of the server's log about what a pool has sent over its connection for questions.
func sentToAsk(t *testing.T, server *pgtest.Server, application string) (lines []string) {
	log, err := os.ReadFile(server.LogFile())
	require.NoError(t, err)
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "] "+application+" (pgprod check) LOG: ") {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestNothingIsAskedWhileNothingIsSlow lends connections for so long that the pool has to look several times whether a
// statement is slow. If one was, since the machine is busy, that says nothing, and it begins anew with another pool, in
// which more time isn't slow.
func TestNothingIsAskedWhileNothingIsSlow(t *testing.T) {
	t.Parallel()
	server := loggingServer(t)
	dsn := server.NewDatabase(t)
	for slow := 250 * time.Millisecond; slow < patience; slow *= 2 {
		name := "quick " + slow.String()
		db := openQuietly(t, dsn, name, 4, slow)
		statements, longest := load(t, db, 8, 4*slow)
		if longest >= slow*3/4 {
			t.Logf("a statement took %v", longest)
			continue
		}
		t.Logf("%d statements, %v at most", statements, longest)
		assert.Empty(t, sentToAsk(t, server, name))
		return
	}
	t.Fatal("each time a statement was slow")
}

// load executes quick statements in several goroutines for some time, and returns how many, and how long the longest took,
// the wait for its connection included.
func load(t *testing.T, db *sql.DB, goroutines int, d time.Duration) (statements int, longest time.Duration) {
	var mu sync.Mutex // guards the results
	var wg sync.WaitGroup
	end := time.Now().Add(d)
	for range goroutines {
		wg.Go(func() {
			for began := time.Now(); began.Before(end); {
				var one int
				assert.NoError(t, db.QueryRow("select $1::int", 1).Scan(&one))
				now := time.Now()
				mu.Lock()
				statements, longest = statements+1, max(longest, now.Sub(began))
				mu.Unlock()
				began = now
			}
		})
	}
	wg.Wait()
	return statements, longest
}

// TestTheServerIsAskedOnceASecondAtMostHoweverManyAreSlow has forty statements wait that become slow at different times.
func TestTheServerIsAskedOnceASecondAtMostHoweverManyAreSlow(t *testing.T) {
	t.Parallel()
	server := loggingServer(t)
	const many, questions = 40, 4
	db := openQuietly(t, server.NewDatabase(t), "slow", many, 10*time.Millisecond)
	began := time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for n := range many {
		wg.Go(func() {
			for ctx.Err() == nil { // there are always some that become slow
				_, _ = db.ExecContext(ctx, fmt.Sprintf("select pg_sleep(%f)", 0.1+float64(n)/20))
			}
		})
	}
	asked := func() (n int) {
		for _, line := range sentToAsk(t, server, "slow") {
			if strings.Contains(line, "with a as materialized (select * from pg_stat_activity)") {
				n++
			}
		}
		return n
	}
	pgtest.Eventually(t, patience, func() bool { return asked() >= questions }, "the server is not asked again")
	cancel()
	wg.Wait()
	most := int(time.Since(began)/time.Second) + 1
	n := asked()
	t.Logf("%d questions in %v", n, time.Since(began))
	assert.LessOrEqual(t, n, most)
	assert.Len(t, sentToAsk(t, server, "slow"), n, "and nothing else is sent")
}
