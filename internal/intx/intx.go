// Package intx runs a function in a transaction, and begins again when the transaction was rolled back for a reason that
// another attempt may not meet.
package intx

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Config is how a transaction is run.
type Config struct {
	sql.TxOptions
	Retries int // after the first attempt
}

const (
	minRetryPause = 5 * time.Millisecond
	maxRetryPause = 500 * time.Millisecond
)

// Run runs fn in a transaction of db, and again while mayPass says of the error that it may pass.
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

// attempt runs fn once and reports whether to do it again. A panic, and runtime.Goexit (a failed test), roll back as an
// error does.
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
		switch back := tx.Rollback(); {
		case errors.Is(back, sql.ErrTxDone) && ctx.Err() == nil:
			return false, endedByFn(err) // maybe with a COMMIT
		case back != nil && !errors.Is(back, sql.ErrTxDone):
			err = fmt.Errorf("%w (and the rollback failed: %v)", err, back)
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

func endedByFn(err error) error {
	return fmt.Errorf("pgprod: InTx commits and rolls back itself, but fn ended the transaction: %w", err)
}
