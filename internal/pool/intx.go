package pool

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/intx"
	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/pgerror"
)

// InTx runs fn in a transaction of db, which must be a *sql.DB of this pool. It begins again after whatever proves that the
// transaction was rolled back for a reason that may have passed. If the outcome of a COMMIT is unknown, it begins again only
// if the transaction has a key, which tells.
func (p *Pool) InTx(ctx context.Context, db *sql.DB, fn func(*sql.Tx) error, cfg intx.Config) error {
	t := &inTx{pool: p}
	if cfg.Keyed {
		t.once = link.NewOnce(cfg.Key)
	}
	return intx.Run(ctx, db, fn, cfg, t)
}

// An inTx is one call of InTx. It is used by one goroutine.
type inTx struct {
	pool *Pool
	once *link.Once // the key; nil: there is none
}

var _ intx.Pool = (*inTx)(nil)

// Begin implements intx.Pool.
func (t *inTx) Begin(ctx context.Context, attempt int, why error, settle bool) context.Context {
	if attempt == 1 && t.once == nil {
		return ctx
	}
	s := &link.Start{Attempt: attempt, Once: t.once}
	if why != nil {
		s.Why = instruments.ErrorType(why)
	}
	if t.once != nil {
		t.once.Ahead = settle
	}
	return link.WithStart(ctx, s)
}

// Judge implements intx.Pool. Each kind of error but Unknown proves that nothing was committed.
func (t *inTx) Judge(err error) intx.Verdict {
	switch {
	case errors.Is(err, ErrCommitUnknown):
		if t.once != nil && link.WhyUnknown(err) != link.NotReplicated {
			return intx.Unknown
		}
		return intx.Final
	case errors.Is(err, link.ErrAlreadyDone), errors.Is(err, ErrTimeout): // a caller must not wait for pool_timeout twice
		return intx.Final
	case pgerror.IsRecoveryConflict(err), pgerror.WorkerEnded(err), t.pool.dialer.LostTx(err):
		return intx.Outage
	case pgerror.IsConflict(err), t.pool.dialer.IsOutdated(err):
		return intx.Conflict
	}
	return intx.Final
}

// usually is why transactions begin again as a rule. Each has a count in the metrics from the start, see Pool.state.
var usually = []string{
	pgerror.SerializationFailure, pgerror.DeadlockDetected, pgerror.AdminShutdown, instruments.ConnectionLost,
}

// BeginsAgain implements intx.Pool.
func (t *inTx) BeginsAgain(ctx context.Context, attempt int, why error, pause time.Duration) {
	b, reason := &t.pool.books, instruments.ErrorType(why)
	b.mu.Lock()
	b.begun[reason]++
	b.mu.Unlock()
	t.pool.diary.BeginsAgain(ctx, attempt, reason, pause)
}

// Refused implements intx.Pool.
func (t *inTx) Refused() error {
	if t.once == nil {
		return nil
	}
	return t.once.Refused()
}

// Settled implements intx.Pool.
func (t *inTx) Settled(err error) intx.Settlement {
	switch {
	case errors.Is(err, link.ErrDoneByUs):
		return intx.Committed
	case errors.Is(err, link.ErrAlreadyDone):
		return intx.Other
	case errors.Is(err, link.ErrKeyGone), errors.Is(err, ErrTimeout), t.pool.closed.Load():
		return intx.CantSettle
	}
	return intx.NotSettled
}

// Patience implements intx.Pool.
func (t *inTx) Patience() time.Duration { return t.pool.cfg.PoolTimeout }

// GaveUp implements intx.Pool.
func (t *inTx) GaveUp(lost error) { t.pool.noteUnknown(link.WhyUnknown(lost), lost) }

// forgetAtOnce is how many keys ForgetOnce deletes by one statement.
const forgetAtOnce = 10_000

// ForgetOnce deletes the keys that are older than that, and returns how many there were.
func (p *Pool) ForgetOnce(ctx context.Context, db *sql.DB, olderThan time.Duration) (deleted int64, err error) {
	table := p.cfg.OnceTable
	var before time.Time
	if err := db.QueryRowContext(ctx, "select now() - make_interval(secs => $1)", olderThan.Seconds()).Scan(&before); err != nil {
		return 0, err
	}
	for {
		result, err := db.ExecContext(ctx, "delete from "+table+" where key in (select key from "+table+
			" where done_at < $1 limit $2)", before, forgetAtOnce)
		if err != nil {
			return deleted, err
		}
		n, err := result.RowsAffected()
		deleted += n
		if err != nil || n < forgetAtOnce {
			return deleted, err
		}
	}
}
