package drivertest

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// endedContexts are contexts that end soon, and their errors.
var endedContexts = map[error]func(context.Context) (context.Context, context.CancelFunc){
	context.DeadlineExceeded: func(ctx context.Context) (context.Context, context.CancelFunc) {
		return context.WithTimeout(ctx, 50*time.Millisecond)
	},
	context.Canceled: func(ctx context.Context) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(50*time.Millisecond, cancel)
		return ctx, cancel
	},
}

// TestTheEndOfAContextIsToldInWordsOfContextsAndOfPgx is about the errors of a wait, where nothing was sent. Those of
// statements that were cut short are checked by requireCut.
func TestTheEndOfAContextIsToldInWordsOfContextsAndOfPgx(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	conn := hold(t, db)
	for cause, end := range endedContexts {
		t.Run("waiting: "+cause.Error(), func(t *testing.T) {
			ctx, cancel := end(t.Context())
			defer cancel()
			_, err := db.ExecContext(ctx, "select 1")
			requireEnded(t, err, cause)
		})
		t.Run("beginning: "+cause.Error(), func(t *testing.T) {
			ctx, cancel := end(t.Context())
			defer cancel()
			<-ctx.Done()
			_, err := conn.BeginTx(ctx, nil)
			requireEnded(t, err, cause)
			mustExec(t, conn, "select 1")
		})
	}
}

// TestAConnOnAFrozenServerKeepsItsCallersDeadline: after a statement that was cut short the server is asked whether it
// lives, which must not take longer than the next caller has.
func TestAConnOnAFrozenServerKeepsItsCallersDeadline(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	for name, hold := range holders {
		for cause, end := range endedContexts {
			t.Run(name+": "+cause.Error(), func(t *testing.T) {
				db := openPool(t, server.DSN(""))
				h, giveBack := hold(t, db)
				defer giveBack()
				pid := backendPID(t, h)
				ctx, cancel := end(t.Context())
				defer cancel()
				_, err := h.ExecContext(ctx, forever)
				require.ErrorIs(t, err, cause)
				require.NoError(t, server.FreezeBackend(pid))
				defer func() { require.NoError(t, server.ThawBackend(pid)) }()
				ctx, cancel = end(t.Context())
				defer cancel()
				began := time.Now()
				_, err = h.ExecContext(ctx, "select 1")
				requireEnded(t, err, cause)
				assert.Less(t, time.Since(began), 3*time.Second, "and not the five seconds of a ping without a deadline")
			})
		}
	}
}

// TestInsideRawAStatementThatWasCutShortHasPgxsOwnError is what the comment of Raw says: pgx's errors can't be changed on
// their way to fn, those of fn can.
func TestInsideRawAStatementThatWasCutShortHasPgxsOwnError(t *testing.T) {
	t.Parallel()
	db := openPool(t, pgtest.NewDatabase(t))
	pgtest.Confirmed(t, func(t *pgtest.Trial) {
		const limit = 50 * time.Millisecond
		var inside error
		err := t.Cut(limit, func() error {
			return pgprod.Raw(t.Context(), db, func(conn *pgx.Conn) error {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				_, inside = conn.Exec(ctx, forever)
				return inside
			})
		})
		require.Equal(t, "57014", sqlState(inside))
		require.NotErrorIs(t, inside, context.DeadlineExceeded)
		require.False(t, pgconn.Timeout(inside))
		requireCut(t, err, context.DeadlineExceeded)
	})
}

// TestNobodyWatchesTheContextOfAConnectionThatIsGone: its end would send a cancel request for a backend that may be
// somebody else's by then.
func TestNobodyWatchesTheContextOfAConnectionThatIsGone(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	// The server ends what nobody waits for soon after command_timeout. Were it slow, a connection would be made to ask about it.
	db := openPool(t, oneConn(proxy.DSN(), "command_timeout", "1s", "slow_query", "0"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	conn := hold(t, db)
	assert.Panics(t, func() {
		_ = conn.Raw(func(dc any) error {
			rows, err := dc.(interface{ Conn() *pgx.Conn }).Conn().Query(ctx, laterRow)
			require.NoError(t, err)
			require.True(t, rows.Next())
			panic("with rows open")
		})
	})
	pgtest.Eventually(t, patience, func() bool { return statusOf(t, db).Closed["dirty"] == 1 && proxy.Stats().Open == 0 })
	before := proxy.Stats().Cancels
	cancel()
	assert.Never(t, func() bool { return proxy.Stats().Cancels > before }, 300*time.Millisecond, 10*time.Millisecond)
}
