package pool

import (
	"context"
	"database/sql"
	"errors"

	"github.com/pgprod/pgprod/internal/intx"
	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/pgerror"
)

// rebinds is how many more connections a statement is tried on, if the one that it was about to be sent on died before a
// byte of the statement was written.
const rebinds = 3

// run calls do, which executes one statement on the connection that it is given. It borrows a connection if the session has
// none. It is the one place that decides whether a statement is tried again, which is when it calls do again:
//
//   - on another connection, if this one died before a byte of the statement was written, or the server has refused the
//     cleaning in front of it, and nothing that came before depends on this one: it was borrowed by this call, or for a
//     transaction of which nothing was sent yet;
//   - on the same connection, if the server has refused what travelled in front of the statement, and won't again;
//   - on the same connection, once, if replan allows it and the server refused the statement before it executed anything,
//     because the schema has changed since pgx prepared it.
//
// In all other cases the statement may have run, and its error is explained and returned. For telemetry all attempts are one
// operation, which is carried from one to the next.
func (s *session) run(ctx context.Context, replan bool, do func(*link.Conn) error) error {
	var carried link.Carried
	for try := 0; ; try++ {
		borrowedNow, err := s.ensureConn(ctx)
		if err == nil && !borrowedNow && s.m.conn.Busy() {
			err = link.ErrBusy
		}
		if err != nil {
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
		case try < rebinds && c.MayRunElsewhere() && (borrowedNow || c.Movable()): // the next round borrows another connection
			carried = c.TakeBack()
			s.leave()
		default:
			return c.Fail(ctx, err)
		}
	}
}

// lend makes the session's connection ready for a caller that gets pgx's connection. It borrows one if the session has none,
// and another one if what had to be sent before can't be.
func (s *session) lend(ctx context.Context) error {
	for try := 0; ; try++ {
		borrowedNow, err := s.ensureConn(ctx)
		if err != nil {
			return err
		}
		c := s.m.conn
		if err = c.Lend(ctx); err == nil {
			return nil
		}
		if try == rebinds || !c.MayRunElsewhere() || !borrowedNow && !c.Movable() {
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

// InTx runs fn in a transaction of db, which must be a *sql.DB of this pool. It begins again if the server rolled the
// transaction back in favour of another one (serialization failure, deadlock), if the schema has changed since a statement
// was prepared, or if the connection was lost before COMMIT was sent. It never begins again if the outcome is unknown.
func (p *Pool) InTx(ctx context.Context, db *sql.DB, fn func(*sql.Tx) error, cfg intx.Config) error {
	return intx.Run(ctx, db, fn, cfg, func(err error) bool {
		return !errors.Is(err, ErrCommitUnknown) && (p.dialer.MayBeginAgain(err) || pgerror.IsConflict(err))
	})
}
