// Package intx runs a function in a transaction, and begins the transaction again if it was rolled back for a reason that
// may have passed. It knows database/sql only; its caller decides which errors may pass.
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
	Retries int // how many attempts there may be after the first one
}

// The pause before an attempt doubles from minRetryPause to maxRetryPause. It is random, between a half and one
// and a half of that, so that transactions which were in conflict don't meet again.
const (
	minRetryPause = 5 * time.Millisecond
	maxRetryPause = 500 * time.Millisecond
)

// Run runs fn in a transaction of db and commits it. If an attempt fails with an error for which mayPass reports true, there
// is another one after a pause, cfg.Retries times at most. mayPass must report true only if the transaction is rolled back
// for certain.
func Run(ctx context.Context, db *sql.DB, fn func(*sql.Tx) error, cfg Config, mayPass func(error) bool) error {
	pause := minRetryPause
	for try := 0; ; try++ {
		again, err := attempt(ctx, db, fn, cfg, mayPass)
		if !again {
			return err
		}
		if try >= cfg.Retries {
			return fmt.Errorf("pgprod: InTx gave up after %d attempts: %w", try+1, err)
		}
		t := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("pgprod: InTx: %w while waiting to repeat the transaction after: %w", ctx.Err(), err)
		}
		pause = min(2*pause, maxRetryPause)
	}
}

// attempt runs fn once in a transaction, and commits or rolls back. again reports whether err may pass. If fn panics, or
// ends the goroutine by runtime.Goexit as a failed test does, the transaction is rolled back as well.
func attempt(ctx context.Context, db *sql.DB, fn func(*sql.Tx) error, cfg Config, mayPass func(error) bool) (again bool, err error) {
	tx, err := db.BeginTx(ctx, &cfg.TxOptions)
	if err != nil {
		return mayPass(err), err
	}
	returned := false
	defer func() {
		if !returned {
			_ = tx.Rollback()
		}
	}()
	err = fn(tx)
	returned = true
	if err != nil {
		switch rollbackErr := tx.Rollback(); {
		case errors.Is(rollbackErr, sql.ErrTxDone) && ctx.Err() == nil:
			return false, endedByFn(err) // perhaps by a COMMIT, so that the transaction must not be begun again
		case rollbackErr != nil && !errors.Is(rollbackErr, sql.ErrTxDone):
			err = fmt.Errorf("%w (and the rollback failed: %v)", err, rollbackErr)
		}
		return mayPass(err), err
	}
	if err = tx.Commit(); errors.Is(err, sql.ErrTxDone) {
		if ctx.Err() != nil {
			return false, fmt.Errorf("pgprod: InTx: the transaction was rolled back: %w", ctx.Err())
		}
		return false, endedByFn(err)
	}
	return mayPass(err), err
}

// endedByFn returns the error for a function that has committed or rolled back the transaction itself.
func endedByFn(err error) error {
	return fmt.Errorf("pgprod: InTx commits and rolls back itself, but fn ended the transaction: %w", err)
}
