package pool

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/link"
)

// A statement is tried again rebinds times at most, or restarts times if the server has ended it or its caller has said that it
// may run twice. No attempt begins later than pool_timeout after the first failure. There may be many restarts, since several
// servers that restart in turn end the same statement a few times; but a statement that ends its own session must not run for
// ever.
const (
	rebinds  = 3
	restarts = 10
)

// The pause before a statement that was executed more than once doubles from minPause to maxPause.
const (
	minPause = 10 * time.Millisecond
	maxPause = 500 * time.Millisecond
)

// run calls do, which executes one statement on the connection that it is given. It borrows a connection if the session has
// none. It is the one place that decides whether a statement is tried again, which is when it calls do again:
//
//   - on another connection, if this one died before the server could execute the statement, if the server has refused the
//     cleaning in front of it, if the server has ended the statement and said so, or if the reply is lost and the caller has
//     said that the statement may run twice; and if nothing that came before depends on this connection: it was borrowed by
//     this call, or for a transaction of which nothing was done yet;
//   - on the same connection, if the server has refused what travelled in front of the statement, and won't again;
//   - on the same connection, once, if replan allows it and the server refused the statement before it executed anything,
//     because the schema has changed since pgx prepared it.
//
// In all other cases the statement may have run, and its error is explained and returned. For telemetry all attempts are one
// operation, which is carried from one to the next.
func (s *session) run(ctx context.Context, replan bool, do func(*link.Conn) error) error {
	var carried link.Carried
	var failed failed
	for try := 0; ; try++ {
		borrowedNow, err := s.ensureConn(ctx, failed.since)
		if err == nil && !borrowedNow && s.m.conn.Busy() {
			err = link.ErrBusy
		}
		if err != nil {
			err = failed.inVain(err)
			carried.End(ctx, err)
			return err
		}
		c := s.m.conn
		replan = replan && ctx.Err() == nil // a second attempt would fail at once, and its error would hide the server's
		err = s.unlessEnded(func() error { return c.Try(carried, do) })
		switch {
		case err == nil && c.Confirmed():
			return nil
		case replan && c.Outdated(err): // pgx has forgotten what it had prepared, and prepares it anew
			carried, replan = c.TakeBack(), false
		case try < rebinds && c.MayRunHere():
			carried = c.TakeBack()
		case (borrowedNow || c.Movable()) && s.pool.again(ctx, &failed, c.MayRunElsewhere(ctx, err)):
			failed.note(c.Explain(err, c.ExecutedNothing()))
			carried = c.TakeBack()
			s.leave()
			failed.pause(ctx)
		default:
			return failed.andBefore(c.Fail(ctx, err))
		}
	}
}

// failed is what is known of the attempts at a statement that have failed and are made again on other connections.
type failed struct {
	times int   // how many there were
	ended int   // how many of them the server had begun to execute
	since int64 // when the first of them failed, by package clock; 0: none has
	last  error // the error of the last one, as a caller would have got it

	why     link.Again // why the last one may be made again
	mayHave error      // the error of the last one that may have run; nil: none of them has run
}

// again reports whether a statement that has failed, and may run again for this reason, is tried again, and counts it.
func (p *Pool) again(ctx context.Context, f *failed, why link.Again) bool {
	most := rebinds
	if why != link.NotExecuted {
		most = restarts
	}
	if why == link.No || f.times >= most || ctx.Err() != nil || p.closed.Load() {
		return false
	}
	switch limit, now := p.cfg.PoolTimeout, clock.Now(); {
	case f.since == 0:
		f.since = now
	case limit > 0 && now-f.since >= int64(limit):
		return false
	}
	f.times++
	f.why = why
	if why != link.NotExecuted {
		f.ended++
	}
	return true
}

// note notes why the last attempt has failed.
func (f *failed) note(err error) {
	f.last = err
	if f.why == link.Repeatable {
		f.mayHave = err
	}
}

// andBefore returns the error of a statement whose last attempt has failed with err. If an earlier attempt may have run, its
// error is among the causes, so that the caller learns of it.
func (f *failed) andBefore(err error) error {
	if f.mayHave == nil {
		return err
	}
	return fmt.Errorf("%w; tried before: %w", err, f.mayHave)
}

// pause waits before a statement that was executed more than once is sent again.
func (f *failed) pause(ctx context.Context) {
	if f.ended < 2 {
		return
	}
	d := min(minPause<<(f.ended-2), maxPause)
	t := time.NewTimer(d/2 + rand.N(d))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// inVain returns the error of a statement that could not be tried again because of err.
func (f *failed) inVain(err error) error {
	if f.last == nil || f.mayHave != nil {
		return f.andBefore(err)
	}
	return fmt.Errorf("%w; tried before: %w", err, f.last)
}

// lend makes the session's connection ready for a caller that gets pgx's connection. It borrows one if the session has none,
// and another one if what had to be sent before can't be.
func (s *session) lend(ctx context.Context) error {
	for try := 0; ; try++ {
		borrowedNow, err := s.ensureConn(ctx, 0)
		if err != nil {
			return err
		}
		c := s.m.conn
		c.NoteAttempt()
		if err = c.Lend(ctx); err == nil {
			return nil
		}
		if try == rebinds || c.MayRunElsewhere(ctx, err) != link.NotExecuted || !borrowedNow && !c.Movable() {
			return c.Explain(err, true)
		}
		s.leave()
	}
}

// unlessEnded calls do, which uses the session's connection, and returns its error. If do doesn't return, because
// runtime.Goexit ends the goroutine (as a failed test does), database/sql will never put the session away. Then the
// connection is given back here, and the session is over: it gets no connection any more. (link.Conn.Try and the others have
// turned a panic into an error by then.)
func (s *session) unlessEnded(do func() error) error {
	returned := false
	defer func() {
		if !returned {
			s.over = true
			s.giveBack()
		}
	}()
	err := do()
	returned = true
	return err
}
