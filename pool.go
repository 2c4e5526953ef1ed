package pgprod

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgprod/pgprod/internal/intx"
	"github.com/pgprod/pgprod/internal/pool"
)

// ErrPoolTimeout is found by errors.Is in the error of a statement that got no connection within pool_timeout. The
// error says how large the pool is, how many connections are in use, how many callers wait, how long this one waited,
// and why the last attempt to connect failed, if it did.
var ErrPoolTimeout error = pool.ErrTimeout

// ErrCommitUnknown is found by errors.Is in the error of a Commit whose reply was lost: the transaction may have been
// committed or not. Any other error of Commit means that it was not.
//
// It is also found in the error of whatever the server says it has committed without the confirmation of a synchronous
// standby, statements outside a transaction included: it is there, and a failover may undo it. The error says which of the
// two it is.
var ErrCommitUnknown error = pool.ErrCommitUnknown

// PoolStatus is a snapshot of a pool, safe to keep. Counts are since it was opened.
type PoolStatus struct {
	PoolName        string           `json:"pool_name"`
	PoolSize        int              `json:"pool_size"`
	MaxOverflow     int              `json:"max_overflow"`     // -1: unlimited
	CheckedOut      int              `json:"checked_out"`      // connections in use
	CheckedIn       int              `json:"checked_in"`       // idle connections
	Overflow        int              `json:"overflow"`         // connections beyond pool_size
	Waiting         int              `json:"waiting"`          // callers that wait for a connection
	Connecting      int              `json:"connecting"`       // connections being made
	Utilisation     float64          `json:"utilisation"`      // checked out ÷ (pool_size + max_overflow); ÷ pool_size where that is unlimited
	PeakCheckedOut  int              `json:"peak_checked_out"` // the most that were ever in use at once
	PeakUtilisation float64          `json:"peak_utilisation"`
	Waits           int64            `json:"waits"`           // how often a caller had to wait
	WaitTime        time.Duration    `json:"wait_time_ns"`    // the sum of all waits
	Timeouts        int64            `json:"timeouts"`        // waits that ended with ErrPoolTimeout
	FailedConnects  int64            `json:"failed_connects"` // attempts to connect that failed
	Closed          map[string]int64 `json:"closed"`          // connections closed, by reason: lifetime, idle, overflow, invalid, dirty, closed
}

// Status returns a snapshot of the pool behind db. It costs two locks and no round trip. The error is for a db that was
// not opened by pgprod, or whose driver is wrapped by another so that the pool can't be seen. It is safe for concurrent
// use.
func Status(db *sql.DB) (PoolStatus, error) {
	p, err := poolOf(db)
	if err != nil {
		return PoolStatus{}, err
	}
	return PoolStatus(p.Status()), nil
}

// Raw calls fn with the *pgx.Conn below a connection of db, for what database/sql has no words for: CopyFrom, batches,
// LISTEN. It waits for a connection as a statement does. The connection is fn's until fn returns; a transaction that fn
// leaves open, a subscription, or a statement prepared under a name of fn's costs the connection; types registered in its
// TypeMap stay with it, whoever borrows it next. (What goes past pgx.Conn, by its PgConn, is neither bounded by
// command_timeout nor looked at for what it leaves behind.)
//
// The error is fn's own, or why there was no connection, or that db isn't pgprod's. Inside fn errors are pgx's own: a
// statement that a deadline or command_timeout has cut short has the server's (57014) and nothing else. What Raw returns,
// if fn returns that error, is the context's as well, as for any statement. It is safe for concurrent use.
func Raw(ctx context.Context, db *sql.DB, fn func(*pgx.Conn) error) error {
	if _, err := poolOf(db); err != nil {
		return err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(dc any) error {
		lender, ok := dc.(interface {
			Lend(context.Context, func(*pgx.Conn) error) error
		})
		if !ok {
			return fmt.Errorf("pgprod: the connection belongs to %T, which wraps pgprod's", dc)
		}
		return lender.Lend(ctx, fn)
	})
}

// A TxOption changes how InTx runs its transaction: [TxIsolation], [TxReadOnly], [TxRetries].
type TxOption func(*txConfig)

// txConfig is what the options of a transaction say.
type txConfig intx.Config

// TxIsolation sets the isolation level. Default: the server's, which is Read Committed unless it was told otherwise. A
// level that PostgreSQL doesn't have (Write Committed, Linearizable) is an error.
func TxIsolation(level sql.IsolationLevel) TxOption {
	return func(c *txConfig) { c.Isolation = level }
}

// TxReadOnly makes the transaction read-only. Default: the server's, read-write unless it was told otherwise.
func TxReadOnly() TxOption {
	return func(c *txConfig) { c.ReadOnly = true }
}

// TxRetries sets how often a transaction is repeated that was rolled back for one of the reasons that InTx names. Default:
// 5; 0 means never.
func TxRetries(n int) TxOption {
	return func(c *txConfig) { c.Retries = n }
}

// InTx calls fn with a transaction and commits it if fn returns nil. If fn returns an error or panics it rolls back, and
// returns the error or panics on.
//
// InTx begins a new transaction and calls fn again, after a growing pause with jitter, when one was rolled back for certain
// and may succeed next time: the server gave it up in favour of another (SQLSTATE 40001, 40P01; from fn's statements or from
// the COMMIT), it refused a statement that was prepared before somebody changed the schema, or the connection was lost
// before COMMIT was sent. So fn must not do anything outside of the transaction that may not be done twice, and must return
// the errors of its statements (wrapped or not). InTx never repeats after ErrCommitUnknown. A fn that commits or rolls
// back itself gets an error.
//
// Within fn don't call InTx for the same database, but pass tx on: another InTx would wait for a second connection while it
// holds the first, and commit on its own whatever becomes of the outer transaction.
//
// ctx covers all of it; when it ends, the transaction is rolled back. It is safe for concurrent use.
func InTx(ctx context.Context, db *sql.DB, fn func(*sql.Tx) error, opts ...TxOption) error {
	if ctx == nil {
		return errors.New("pgprod: InTx needs a context, got nil")
	}
	p, err := poolOf(db)
	if err != nil {
		return err
	}
	cfg := txConfig{Retries: 5}
	for _, opt := range opts {
		if opt != nil {
			opt(&cfg)
		}
	}
	return p.InTx(ctx, db, fn, intx.Config(cfg))
}

// poolOf finds the pool behind db.
func poolOf(db *sql.DB) (*pool.Pool, error) {
	d, ok := db.Driver().(poolDriver)
	if !ok {
		return nil, fmt.Errorf("pgprod: this *sql.DB belongs to driver %T, not to pgprod (or pgprod is wrapped by it)", db.Driver())
	}
	return d.pool, nil
}
