package faulttest

import (
	"bytes"
	"context"
	"database/sql"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
)

// A client is a pool and the test that uses it.
type client struct {
	*sql.DB
	t testing.TB
}

// newClient opens a pool that the end of the test closes.
func newClient(t testing.TB, dsn string, opts ...pgprod.Option) client {
	t.Helper()
	return client{openPool(t, dsn, opts...), t}
}

// do runs a statement that must not fail.
func (c client) do(query string, args ...any) {
	c.t.Helper()
	_, err := c.ExecContext(context.Background(), query, args...)
	require.NoError(c.t, err, query)
}

// count runs a query for one number.
func (c client) count(query string, args ...any) (n int) {
	c.t.Helper()
	require.NoError(c.t, c.QueryRowContext(context.Background(), query, args...).Scan(&n), query)
	return n
}

func (c client) status() pgprod.PoolStatus {
	c.t.Helper()
	s, err := pgprod.Status(c.DB)
	require.NoError(c.t, err)
	return s
}

// A crowd is workers that do the same over and over.
type crowd struct {
	stop context.CancelFunc
	wg   sync.WaitGroup
	all  []*crowdWorker
}

type crowdWorker struct {
	done   atomic.Int64 // rounds without an error
	mu     sync.Mutex   // guards errors
	errors []error
}

// startCrowd has n workers call work until stopped. The end of the test stops them too, before its pools are closed.
func startCrowd(t testing.TB, n int, work func(worker int) error) *crowd {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &crowd{stop: cancel}
	for i := range n {
		w := &crowdWorker{}
		c.all = append(c.all, w)
		c.wg.Go(func() { // ended by finish
			for ctx.Err() == nil {
				if err := work(i); err != nil {
					w.mu.Lock()
					w.errors = append(w.errors, err)
					w.mu.Unlock()
				} else {
					w.done.Add(1)
				}
			}
		})
	}
	t.Cleanup(c.finish)
	return c
}

func (c *crowd) finish() {
	c.stop()
	c.wg.Wait()
}

// advance waits until every worker has done n more rounds.
func (c *crowd) advance(t testing.TB, n int64) {
	t.Helper()
	for i, w := range c.all {
		target := w.done.Load() + n
		deadline := time.After(patience)
		for w.done.Load() < target {
			select {
			case <-deadline:
				t.Fatalf("worker %d did not get on: %v", i, w.failures())
			case <-time.After(time.Millisecond):
			}
		}
	}
}

func (w *crowdWorker) failures() []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]error(nil), w.errors...)
}

// failures are the errors of all workers.
func (c *crowd) failures() (all []error) {
	for _, w := range c.all {
		all = append(all, w.failures()...)
	}
	return all
}

// requireAtMost fails the test if a worker has had more than n errors.
func (c *crowd) requireAtMost(t testing.TB, n int) {
	t.Helper()
	for i, w := range c.all {
		if errs := w.failures(); len(errs) > n {
			t.Errorf("worker %d had %d errors: %v", i, len(errs), errs)
		}
	}
}

func (c *crowd) rounds() (n int64) {
	for _, w := range c.all {
		n += w.done.Load()
	}
	return n
}

// logLines collects what is logged, as text with all attributes.
type logLines struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logLines) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
