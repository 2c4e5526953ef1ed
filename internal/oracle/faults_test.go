package oracle

import (
	"context"
	"database/sql"
	"strings"
	"sync"
)

// send sends a statement in one of the ways, and returns its error.
func send(ctx context.Context, q querier, how, text string, args ...any) error {
	switch how {
	case "Query":
		rows, err := q.QueryContext(ctx, text, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
		}
		return rows.Err()
	case "QueryRow":
		var value sql.RawBytes
		return q.QueryRowContext(ctx, text, args...).Scan(&value)
	default:
		_, err := q.ExecContext(ctx, text, args...)
		return err
	}
}

const sleep = "select pg_sleep(600)"

// do ends the context when the server is asleep, so that nothing depends on how fast the machine is. Afterwards the
// connection is taken away from the program: pgx has lost it.
func (s cut) do(w *world, o *observation) {
	q, l, err := w.at(s.place)
	if err != nil {
		o.skip("%v", err)
		return
	}
	if l != nil && w.reading(l) {
		o.skip("rows are open")
		return
	}
	ctx := newEndable(context.Canceled)
	if s.deadline {
		ctx = newEndable(context.DeadlineExceeded)
	}
	over := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() { // ends with the statement
		w.side.awaitSleep(over)
		ctx.end()
	})
	err = send(ctx, q, s.how, sleep)
	close(over)
	watcher.Wait()
	o.fault("error", err)
	if l != nil && isEnd(err) {
		w.afterEnd(o, q, l)
	}
	w.side.settle()
}

// afterEnd notes that a connection outlives the end of a context, and takes it away from the program: pgx has lost it.
func (w *world) afterEnd(o *observation, q querier, l *lease) {
	if !w.closed { // then there may be none, and none to be had
		o.note("lives on", "%v", w.side.name == "pgx" || livesOn(q))
	}
	w.retire(l)
}

// livesOn reports whether a connection answers, if only that its transaction has failed, or is busy with rows that are open.
func livesOn(q querier) bool {
	err := send(context.Background(), q, "Exec", "select 1")
	return err == nil || isBusy(err) || sqlState(err) == "25P02"
}

// awaitSleep waits until a backend of the program's sleeps, or over is closed.
func (s *side) awaitSleep(over <-chan struct{}) {
	await("no backend sleeps", func() bool {
		select {
		case <-over: // it had been refused
			return true
		default:
		}
		asleep := false
		must(s.admin.QueryRow(context.Background(), "select exists (select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep')").Scan(&asleep))
		return asleep
	})
}

// An endable is a context that ends when it is told to, for any reason.
type endable struct {
	context.Context
	done chan struct{}
	why  error
}

func newEndable(why error) *endable {
	return &endable{context.Background(), make(chan struct{}), why}
}

func (e *endable) end()                  { close(e.done) }
func (e *endable) Done() <-chan struct{} { return e.done }

func (e *endable) Err() error {
	select {
	case <-e.done:
		return e.why
	default:
		return nil
	}
}

func (s panicking) do(w *world, o *observation) {
	q, l, err := w.at(s.place)
	if err != nil {
		o.skip("%v", err)
		return
	}
	if w.closed {
		o.skip("%v", err)
		return
	}
	err = send(context.Background(), q, s.how, "select $1::text", bug{})
	earlier := sqlState(err) == "25P02" || isBusy(err) || len(kinds(err)) > 0 // the argument was not even looked at
	o.note("says what the panic said", "%v", err != nil && (strings.Contains(err.Error(), panicked) || earlier))
	w.retire(l)
}

// do terminates every backend of the program's, and waits until their processes are gone: a moment earlier their sockets may
// still be open, so that a statement would be written to one. What is open is lost, and nothing of it committed; what comes afterwards is
// answered.
func (terminate) do(w *world, o *observation) {
	if w.closed {
		o.skip("the *sql.DB is closed")
		return
	}
	w.side.drain(w.db)
	_, err := w.side.admin.Exec(context.Background(), "select pg_terminate_backend(pid, 60000) from pg_stat_activity where "+ofTheProgram)
	must(err)
	await("a backend lives that was terminated", func() bool { return w.side.backends() == 0 })
	for _, x := range w.tx {
		if x != nil && !x.done {
			if err := x.tx.Commit(); x.sent || w.eager { // else it may have nothing to lose with pgprod
				o.note("commit fails", "%v", err != nil)
			}
			x.done = true
		}
	}
	for _, l := range w.leases() {
		w.retire(l)
	}
	w.sweep() // pgx may or may not notice that its idle connections are dead; pgprod must
	o.fault("the next statement", send(context.Background(), w.db, "Exec", "select 1"))
}
