package pool

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/pgprod/pgprod/internal/pgerror"
)

// TxConfig is how InTx runs a transaction.
type TxConfig struct {
	sql.TxOptions
	Retries int // after the first attempt
}

const (
	minRetryPause = 5 * time.Millisecond
	maxRetryPause = 500 * time.Millisecond
)

// InTx runs fn in a transaction of db, whose pool p is, and again if the server asks for it.
func (p *Pool) InTx(ctx context.Context, db *sql.DB, fn func(*sql.Tx) error, cfg TxConfig) error {
	pause := minRetryPause
	for try := 0; ; try++ {
		again, err := p.attemptTx(ctx, db, fn, cfg)
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

// wantsRetry reports whether a transaction that failed with err is rolled back for a reason that another attempt may not
// meet: the server gave it up in favour of another one (serialization failure, deadlock), the schema has changed since a
// statement was prepared, or the connection was lost before COMMIT was sent. Never if the outcome is unknown.
func (p *Pool) wantsRetry(err error) bool {
	if errors.Is(err, ErrCommitUnknown) {
		return false
	}
	return p.dialer.MayBeginAgain(err) || pgerror.IsConflict(err)
}

// attemptTx runs fn once and reports whether to do it again. A panic, and runtime.Goexit (a failed test), roll back as
// an error does.
func (p *Pool) attemptTx(ctx context.Context, db *sql.DB, fn func(*sql.Tx) error, cfg TxConfig) (again bool, err error) {
	tx, err := db.BeginTx(ctx, &cfg.TxOptions)
	if err != nil {
		return p.wantsRetry(err), err
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
		return p.wantsRetry(err), err
	}
	if err = tx.Commit(); errors.Is(err, sql.ErrTxDone) {
		if ctx.Err() != nil {
			return false, fmt.Errorf("pgprod: InTx: the transaction was rolled back: %w", ctx.Err())
		}
		return false, endedByFn(err)
	}
	return p.wantsRetry(err), err
}

func endedByFn(err error) error {
	return fmt.Errorf("pgprod: InTx commits and rolls back itself, but fn ended the transaction: %w", err)
}
