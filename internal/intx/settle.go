package intx

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// A Settlement is what beginning a transaction again, with the key of one whose COMMIT seemed lost, has shown.
type Settlement uint8

const (
	NotSettled Settlement = iota // it is still not known
	Committed                    // the key is there, and was committed by this call
	Other                        // the key is there, and was committed by another call: this one's transaction was rolled back
	CantSettle                   // it can't be found out any more
)

// lose notes that a COMMIT has failed with err, so that it isn't known whether the transaction is committed.
func (r *run) lose(err error) { r.lost, r.lostAt = err, time.Now() }

// settle finds out what became of a COMMIT whose reply was lost. It begins the nth attempt by inserting the key, which waits
// for the lost transaction if that is still under way. If the key can be inserted, the lost transaction was rolled back, and tx is
// the next attempt. If the lost one is committed, tx and the error are nil.
func (r *run) settle(ctx context.Context, n int) (*sql.Tx, error) {
	for try := 1; ; try++ {
		tx, err := r.db.BeginTx(r.pool.Begin(ctx, n, r.lost, true), &r.cfg.TxOptions)
		if err == nil {
			return r.rolledBack(tx, n)
		}
		switch r.pool.Settled(err) {
		case Committed:
			return nil, nil
		case Other:
			return nil, err
		case CantSettle:
			return nil, r.stillUnknown(err)
		}
		patience := r.pool.Patience()
		if ctx.Err() != nil || patience > 0 && time.Since(r.lostAt) >= patience || !sleep(ctx, pauseBefore(try, Unknown)) {
			return nil, r.stillUnknown(err)
		}
	}
}

// rolledBack is called when it has turned out that the lost transaction was rolled back. tx has the key, and is the next
// attempt, if there may be one.
func (r *run) rolledBack(tx *sql.Tx, n int) (*sql.Tx, error) {
	lost := r.lost
	r.lost = nil
	if n <= r.cfg.Retries+1 {
		return tx, nil
	}
	_ = tx.Rollback()
	return nil, fmt.Errorf("pgprod: InTx gave up after %d attempts; the last one is rolled back, as its key shows: %v", n-1, lost)
}

// stillUnknown returns the error of a call that can't find out, because of err, what became of its COMMIT.
func (r *run) stillUnknown(err error) error {
	r.pool.GaveUp(r.lost)
	return fmt.Errorf("%w; its key could not be looked up: %w; call again with the same key to find out", r.lost, err)
}
