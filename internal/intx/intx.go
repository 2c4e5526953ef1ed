// Package intx runs a function in a transaction, and begins the transaction again if it was rolled back for a reason that
// may have passed. It knows database/sql only; its caller, a Pool, knows what an error means.
//
//	intx.go    attempts, and pauses between them
//	settle.go  finding out what became of a COMMIT whose reply was lost, by the key of the transaction
package intx

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Config says how a transaction is run.
type Config struct {
	sql.TxOptions
	Retries int    // how many attempts there may be after the first one
	Keyed   bool   // the transaction has a key
	Key     string // which is committed with it
}

// A Pool knows what became of a transaction.
type Pool interface {
	// Begin returns the context with which the given attempt, from 1 on, is begun. why is the error of the one before, nil
	// for the first. If settle is true, the transaction's key is inserted before Begin returns.
	Begin(ctx context.Context, attempt int, why error, settle bool) context.Context
	// Judge says what the error of an attempt means.
	Judge(err error) Verdict
	// BeginsAgain is called when an attempt comes after another, which has failed with why.
	BeginsAgain(ctx context.Context, attempt int, why error, pause time.Duration)
	// Refused returns why the transaction's key was refused, nil if it was not.
	Refused() error
	// Settled returns what BeginTx has found out about a transaction whose COMMIT seemed lost, by its error.
	Settled(err error) Settlement
	// Patience returns how long is tried to find out what became of a COMMIT; 0: as long as the context allows.
	Patience() time.Duration
	// GaveUp is called when it could not be found out what became of a COMMIT that has failed with lost.
	GaveUp(lost error)
}

// A Verdict says what the error of an attempt means.
type Verdict uint8

const (
	Final    Verdict = iota // another attempt would fail as well, or might do twice what was committed
	Conflict                // it is rolled back in favour of another transaction, which is over in a moment
	Outage                  // it is rolled back since the server was not there, or was busy with itself, for a while
	Unknown                 // it may have been committed, and its key tells
)

// The pause before an attempt grows by a factor, from the first to the longest. It is multiplied by a random number between 0.5
// and 1.5, so that transactions which were in conflict don't meet again. Five pauses of an outage are 9 seconds together, which
// is what a server may need to restart, or a standby to replay. The pauses of a conflict are shorter.
var pauses = map[Verdict]struct {
	first, longest time.Duration
	factor         time.Duration
}{
	Conflict: {5 * time.Millisecond, 500 * time.Millisecond, 2},
	Outage:   {50 * time.Millisecond, 5 * time.Second, 4},
	Unknown:  {5 * time.Millisecond, time.Second, 2},
}

// pauseBefore returns the pause before the nth attempt after the first one, before it is multiplied by a random number.
func pauseBefore(n int, v Verdict) time.Duration {
	p := pauses[v]
	d := p.first
	for ; n > 1 && d < p.longest; n-- {
		d *= p.factor
	}
	return min(d, p.longest)
}

// Run runs fn in a transaction of db and commits it. If an attempt is rolled back for a reason that may have passed, there
// is another one after a pause, cfg.Retries times at most.
func Run(ctx context.Context, db *sql.DB, fn func(*sql.Tx) error, cfg Config, pool Pool) error {
	r := run{db: db, fn: fn, cfg: cfg, pool: pool}
	for n := 1; ; n++ {
		tx, verdict, err := r.begin(ctx, n)
		if err == nil && tx == nil {
			return nil // it turned out to be committed
		}
		if err == nil {
			verdict, err = r.attempt(ctx, tx)
		}
		switch {
		case err == nil:
			return nil
		case verdict == Final:
			return err
		case verdict == Unknown:
			r.lose(err)
		case n > cfg.Retries:
			return fmt.Errorf("pgprod: InTx gave up after %d attempts: %w", n, err)
		}
		r.why = err
		pause := pauseBefore(n, verdict)
		pause = pause/2 + rand.N(pause)
		pool.BeginsAgain(ctx, n+1, err, pause)
		if !sleep(ctx, pause) {
			if r.lost != nil {
				return r.stillUnknown(ctx.Err())
			}
			return fmt.Errorf("pgprod: InTx: %w while waiting to repeat the transaction after: %w", ctx.Err(), err)
		}
	}
}

// run is one call of Run.
type run struct {
	db   *sql.DB
	fn   func(*sql.Tx) error
	cfg  Config
	pool Pool

	why error // why the last attempt has failed; nil: there was none

	lost   error     // the error of a COMMIT of which it isn't known what became; nil: there is none
	lostAt time.Time // when it came
}

// sleep waits, and reports whether ctx has not ended meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// begin begins the nth attempt. tx and err are nil if there is nothing left to do.
func (r *run) begin(ctx context.Context, n int) (*sql.Tx, Verdict, error) {
	if r.lost != nil {
		tx, err := r.settle(ctx, n)
		return tx, Final, err
	}
	tx, err := r.db.BeginTx(r.pool.Begin(ctx, n, r.why, false), &r.cfg.TxOptions)
	if err != nil {
		return nil, r.pool.Judge(err), err
	}
	return tx, Final, nil
}

// attempt runs fn in tx, and commits or rolls back. If fn panics, or ends the goroutine by runtime.Goexit as a failed test
// does, the transaction is rolled back as well.
func (r *run) attempt(ctx context.Context, tx *sql.Tx) (Verdict, error) {
	returned := false
	defer func() {
		if !returned {
			_ = tx.Rollback()
		}
	}()
	err := r.fn(tx)
	returned = true
	if err != nil {
		return r.rollback(ctx, tx, err)
	}
	switch err = tx.Commit(); {
	case err == nil:
		return Final, nil
	case r.pool.Refused() != nil:
		return r.refused()
	case errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil:
		return Final, fmt.Errorf("pgprod: InTx: the transaction was rolled back: %w", ctx.Err())
	case errors.Is(err, sql.ErrTxDone):
		return Final, endedByFn(err)
	}
	return r.pool.Judge(err), err
}

// rollback rolls tx back, in which fn has failed with err.
func (r *run) rollback(ctx context.Context, tx *sql.Tx, err error) (Verdict, error) {
	rollbackErr := tx.Rollback()
	switch {
	case errors.Is(rollbackErr, sql.ErrTxDone) && ctx.Err() == nil:
		return Final, endedByFn(err) // perhaps by a COMMIT, so that the transaction must not be begun again
	case r.pool.Refused() != nil:
		return r.refused()
	case rollbackErr != nil && !errors.Is(rollbackErr, sql.ErrTxDone):
		err = fmt.Errorf("%w (and the rollback failed: %v)", err, rollbackErr)
	}
	return r.pool.Judge(err), err
}

// refused returns the outcome of an attempt whose key the server has refused. fn may have made another error of that.
func (r *run) refused() (Verdict, error) {
	err := r.pool.Refused()
	return r.pool.Judge(err), err
}

// endedByFn returns the error for a function that has committed or rolled back the transaction itself.
func endedByFn(err error) error {
	return fmt.Errorf("pgprod: InTx commits and rolls back itself, but fn ended the transaction: %w", err)
}
