package pgerror

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPgxStillMakesItsTimeoutErrorForAReadAfterItsDeadline(t *testing.T) {
	t.Parallel()
	require.Error(t, pgxTimeout())
	assert.True(t, pgconn.Timeout(pgxTimeout()))
	assert.False(t, pgconn.SafeToRetry(pgxTimeout()), "what was cut short may have run")
}

func TestOnlyADeadlineIsATimeoutForPgx(t *testing.T) {
	t.Parallel()
	assert.Len(t, OfContext(context.DeadlineExceeded), 2)
	assert.Equal(t, []error{context.Canceled}, OfContext(context.Canceled))
}
