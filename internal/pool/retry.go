package pool

import (
	"context"
	"database/sql"
	"errors"

	"github.com/pgprod/pgprod/internal/intx"
	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/pgerror"
)

// rebinds is how often a statement is tried on another connection because the one it got died before a byte of the
// statement was written.
const rebinds = 3

// run has do work on the session's connection. It is the one place that decides whether a statement is tried again:
//
//   - on another connection, if this one was borrowed for the statement, and died before a byte of it was written;
//   - on the same one, once, if replan says so and it was refused, and not executed, since the schema has changed after pgx
//     had prepared it.
//
// However often it is tried, it is one operation for telemetry, which is carried on from attempt to attempt.
func (s *session) run(ctx context.Context, replan bool, do func(*link.Conn) error) error {
	var carried link.Carried
	for try := 0; ; try++ {
		borrowedNow, err := s.use(ctx)
		if err == nil && !borrowedNow && s.m.conn.Busy() {
			err = link.ErrBusy
		}
		if err != nil {
			carried.End(ctx, err)
			return err
		}
		c := s.m.conn
		replan = replan && ctx.Err() == nil // else what comes of the second attempt would hide the first refusal
		err = s.unlessEnded(func() error { return c.Try(carried, do) })
		switch {
		case err == nil && c.Confirmed():
			return nil
		case replan && c.Outdated(err):
			carried, replan = c.TakeBack(), false
		case borrowedNow && try < rebinds && c.Unsent():
			carried = c.TakeBack()
			s.giveBack()
		default:
			return c.Fail(ctx, err)
		}
	}
}

// unlessEnded calls do, on the session's connection. If runtime.Goexit ends the goroutine in the midst of it, database/sql
// never gives the session back: its connection goes now, and it gets no other.
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

// InTx runs fn in a transaction of db, whose pool p is, and begins again if the server gave the transaction up in favour of
// another one (serialization failure, deadlock), the schema has changed since a statement was prepared, or the connection
// was lost before COMMIT was sent. It never does if the outcome is unknown.
func (p *Pool) InTx(ctx context.Context, db *sql.DB, fn func(*sql.Tx) error, cfg intx.Config) error {
	return intx.Run(ctx, db, fn, cfg, func(err error) bool {
		return !errors.Is(err, ErrCommitUnknown) && (p.dialer.MayBeginAgain(err) || pgerror.IsConflict(err))
	})
}
