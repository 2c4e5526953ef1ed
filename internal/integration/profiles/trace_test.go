package profiles

import (
	"bytes"
	"context"
	"database/sql/driver"
	"io"
	"runtime/trace"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	traces "golang.org/x/exp/trace"

	"github.com/pgprod/pgprod"
)

// A span is a task or a region of a trace, in which goroutines it began and ended, and of which task it is a part.
type span struct {
	kind       string
	from, to   traces.GoID
	id, parent traces.TaskID // id is 0 for a region
	ended      bool
}

// record collects a trace while run runs, and returns its tasks and regions in the order of their beginnings.
func record(t *testing.T, run func()) []*span {
	t.Helper()
	var data bytes.Buffer
	require.NoError(t, trace.Start(&data))
	run()
	trace.Stop()
	reader, err := traces.NewReader(&data)
	require.NoError(t, err)
	var all []*span
	for {
		e, err := reader.ReadEvent()
		if err == io.EOF {
			return all
		}
		require.NoError(t, err, "such as that regions don't end in the order in which they must")
		all = noted(t, all, e)
	}
}

// noted adds what an event says of a task or a region.
func noted(t *testing.T, all []*span, e traces.Event) []*span {
	switch e.Kind() {
	case traces.EventTaskBegin:
		task := e.Task()
		return append(all, &span{kind: task.Type, from: e.Goroutine(), id: task.ID, parent: task.Parent})
	case traces.EventRegionBegin:
		region := e.Region()
		return append(all, &span{kind: region.Type, from: e.Goroutine(), parent: region.Task})
	case traces.EventTaskEnd:
		end(t, all, e.Goroutine(), func(s *span) bool { return s.id == e.Task().ID })
	case traces.EventRegionEnd:
		region := e.Region()
		end(t, all, e.Goroutine(), func(s *span) bool {
			return s.id == 0 && s.from == e.Goroutine() && s.kind == region.Type && s.parent == region.Task
		})
	}
	return all
}

// end notes the end of the last span that matches and has not ended.
func end(t *testing.T, all []*span, in traces.GoID, match func(*span) bool) {
	for i := len(all) - 1; i >= 0; i-- {
		if s := all[i]; !s.ended && match(s) {
			s.to, s.ended = in, true
			return
		}
	}
	require.Fail(t, "an end without a beginning")
}

// named returns the tasks, and the regions, with a name. All of them have ended.
func named(t *testing.T, all []*span, kind string) (tasks, regions []*span) {
	t.Helper()
	for _, s := range all {
		switch {
		case s.kind != kind:
			continue
		case s.id != 0:
			tasks = append(tasks, s)
		default:
			regions = append(regions, s)
			assert.Equal(t, s.from, s.to, "a region ends where it began")
		}
		assert.True(t, s.ended, kind)
	}
	return tasks, regions
}

func TestInATraceAStatementIsATaskAndItsSendingARegion(t *testing.T) {
	db := open(t)
	all := record(t, func() {
		ctx, task := trace.NewTask(t.Context(), "request")
		defer task.End()
		rows, err := db.QueryContext(ctx, "SELECT relname FROM pg_class WHERE oid > $1", 0)
		require.NoError(t, err)
		require.True(t, rows.Next())
		closed := make(chan error)
		go func() { closed <- rows.Close() }() // in another goroutine, as database/sql does when a context ends
		require.NoError(t, <-closed)
		_, err = db.ExecContext(ctx, "SELECT 1/$1::int", 0)
		require.Error(t, err)
	})
	requests, _ := named(t, all, "request")
	require.Len(t, requests, 1)
	tasks, regions := named(t, all, "SELECT pg_class")
	require.Len(t, tasks, 1)
	require.Len(t, regions, 1)
	assert.Equal(t, requests[0].id, tasks[0].parent)
	assert.Equal(t, tasks[0].id, regions[0].parent)
	assert.NotEqual(t, tasks[0].from, tasks[0].to)
	failed, regions := named(t, all, "SELECT")
	assert.Len(t, failed, 1)
	assert.Len(t, regions, 1)
	_, waits := named(t, all, "pgprod.wait")
	assert.Len(t, waits, 2)
	assert.Equal(t, requests[0].id, waits[0].parent)
}

func TestInATraceATransactionIsItsStatements(t *testing.T) {
	db := open(t)
	all := record(t, func() {
		tx, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(t.Context(), "CREATE TABLE t (n int); INSERT INTO t VALUES (1)") // after a BEGIN of its own
		require.NoError(t, err)
		require.NoError(t, tx.Commit())
	})
	for _, name := range []string{"begin", "CREATE TABLE t INSERT t", "commit"} {
		tasks, regions := named(t, all, name)
		assert.Len(t, tasks, 1, name)
		assert.Len(t, regions, 1, name)
	}
}

func TestInATraceWhatRawDoesMayEndInAnyOrder(t *testing.T) {
	db := open(t)
	all := record(t, func() {
		require.NoError(t, pgprod.Raw(t.Context(), db, func(c *pgx.Conn) error {
			region := trace.StartRegion(t.Context(), "own")
			rows, err := c.Query(context.Background(), "SELECT amname FROM pg_am")
			region.End()
			rows.Close()
			return err
		}))
	})
	tasks, regions := named(t, all, "SELECT pg_am")
	assert.Len(t, tasks, 1)
	assert.Empty(t, regions)
}

func TestInATraceAPanicEndsItsStatement(t *testing.T) {
	db := open(t)
	all := record(t, func() {
		_, err := db.ExecContext(t.Context(), "SELECT $1::int", panicking{})
		require.Error(t, err)
	})
	tasks, regions := named(t, all, "SELECT")
	assert.Len(t, tasks, 1)
	assert.Len(t, regions, 1)
}

// panicking is a parameter that panics.
type panicking struct{}

// Value implements driver.Valuer.
func (panicking) Value() (driver.Value, error) { panic("no value") }

func TestOfAStatementThatBeganBeforeTheTraceThereIsNothing(t *testing.T) {
	db := open(t)
	rows, err := db.QueryContext(t.Context(), "SELECT relname FROM pg_class")
	require.NoError(t, err)
	all := record(t, func() { require.NoError(t, rows.Close()) })
	assert.Empty(t, all)
	rows, err = db.QueryContext(t.Context(), "SELECT relname FROM pg_class")
	require.NoError(t, err)
	require.NoError(t, rows.Close())
}
