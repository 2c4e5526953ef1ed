package faulttest

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// workers is how many goroutines make the load.
const workers = 16

// span is a time from and to.
type span struct{ from, to time.Time }

// failure is a statement that failed.
type failure struct {
	span
	err error
}

// ledgerOf is what one worker knows of its inserts.
type ledgerOf struct {
	acknowledged []string
	at           []time.Time // when each was acknowledged
	longest      time.Duration
	failed       []failure
	hung         bool // in a statement that only the end of the load ended
}

// load is a number of workers that insert rows, each its own, without a pause worth mentioning.
type load struct {
	ledgers []ledgerOf // to be read after end
	done    []atomic.Int64
	stop    context.CancelFunc
	wg      sync.WaitGroup
}

// startLoad begins to insert into the table work. The statements have no deadline.
func startLoad(t *testing.T, db *sql.DB) *load {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &load{ledgers: make([]ledgerOf, workers), done: make([]atomic.Int64, workers), stop: stop}
	for w := range workers {
		l.wg.Go(func() { l.work(ctx, db, w) }) // ends with end, or with the test
	}
	t.Cleanup(l.end)
	return l
}

func (l *load) work(ctx context.Context, db *sql.DB, w int) {
	mine := &l.ledgers[w]
	pause := time.NewTicker(4 * time.Millisecond) // what the program does with its time else
	defer pause.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		<-pause.C
		id := fmt.Sprintf("%d-%d", w, n)
		text, args := "insert into work values ($1)", []any{id}
		if n%2 == 0 {
			text, args = "insert into work values ('"+id+"')", nil
		}
		began := time.Now()
		_, err := db.ExecContext(ctx, text, args...)
		ended := time.Now()
		mine.longest = max(mine.longest, ended.Sub(began))
		switch {
		case err == nil:
			mine.acknowledged = append(mine.acknowledged, id)
			mine.at = append(mine.at, ended)
			l.done[w].Add(1)
		case ctx.Err() != nil:
			mine.hung = ended.Sub(began) > time.Second
		default:
			mine.failed = append(mine.failed, failure{span{began, ended}, err})
		}
	}
}

// end stops the workers and waits for them.
func (l *load) end() {
	l.stop()
	l.wg.Wait()
}

// goesOn reports whether every worker gets n more statements done within limit.
func (l *load) goesOn(n int64, limit time.Duration) bool {
	var goal [workers]int64
	for w := range goal {
		goal[w] = l.done[w].Load() + n
	}
	deadline, tick := time.Now().Add(limit), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for {
		behind := 0
		for w := range goal {
			if l.done[w].Load() < goal[w] {
				behind++
			}
		}
		if behind == 0 || time.Now().After(deadline) {
			return behind == 0
		}
		<-tick.C
	}
}

func (l *load) failures() (all []failure, mostOfOne int) {
	for _, mine := range l.ledgers {
		all = append(all, mine.failed...)
		mostOfOne = max(mostOfOne, len(mine.failed))
	}
	return all, mostOfOne
}

func (l *load) longest() (d time.Duration) {
	for _, mine := range l.ledgers {
		d = max(d, mine.longest)
	}
	return d
}

func (l *load) hung() (n int) {
	for _, mine := range l.ledgers {
		if mine.hung {
			n++
		}
	}
	return n
}

// successes are the times at which statements were acknowledged, in order.
func (l *load) successes() (at []time.Time) {
	for _, mine := range l.ledgers {
		at = append(at, mine.at...)
	}
	slices.SortFunc(at, time.Time.Compare)
	return at
}

// countRows compares the table work with what the workers were told.
func (l *load) countRows(t *testing.T, judge *sql.DB) (doubled, lost int) {
	t.Helper()
	rows, err := judge.Query("select id, count(*) from work group by id")
	require.NoError(t, err)
	defer rows.Close()
	there := map[string]bool{}
	for rows.Next() {
		var id string
		var n int
		require.NoError(t, rows.Scan(&id, &n))
		there[id] = true
		if n > 1 {
			doubled++
		}
	}
	require.NoError(t, rows.Err())
	for _, mine := range l.ledgers {
		for _, id := range mine.acknowledged {
			if !there[id] {
				lost++
			}
		}
	}
	return doubled, lost
}

// workDatabase makes a database with the table work on a server.
func workDatabase(t *testing.T, server *pgtest.Server) (dsn string) {
	t.Helper()
	dsn = server.NewDatabase(t)
	db, err := sql.Open("pgx", dsn)
	require.NoError(t, err)
	exec(t, db, "create table work (id text)")
	require.NoError(t, db.Close())
	return dsn
}
