package orm

import (
	"context"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// TestOneCallsOwnLimitGoesThroughGORMAndSqlx looks at what the server's limit becomes for a longer one, and at the error of a
// shorter one.
func TestOneCallsOwnLimitGoesThroughGORMAndSqlx(t *testing.T) {
	server := pgtest.StartTB(t, pgtest.Config{})
	g := openGORM(t, gormByName(t, server.DSN("")), &gorm.Config{})
	db, err := g.DB()
	require.NoError(t, err)
	x := sqlx.NewDb(db, "postgres")
	for name, scan := range map[string]func(ctx context.Context, query string, into *string) error{
		"gorm": func(ctx context.Context, query string, into *string) error {
			return g.WithContext(ctx).Raw(query).Scan(into).Error
		},
		"a transaction of gorm's": func(ctx context.Context, query string, into *string) error {
			return g.WithContext(ctx).Transaction(func(tx *gorm.DB) error { return tx.Raw(query).Scan(into).Error })
		},
		"sqlx": func(ctx context.Context, query string, into *string) error { return x.GetContext(ctx, into, query) },
	} {
		var got string
		require.NoError(t, scan(pgprod.ContextWithCommandTimeout(t.Context(), time.Hour), "select current_setting('statement_timeout')", &got), name)
		assert.Equal(t, "3601s", got, name)
		require.NoError(t, scan(t.Context(), "select current_setting('statement_timeout')", &got), name)
		assert.Equal(t, "31s", got, name)
		err := scan(pgprod.ContextWithCommandTimeout(t.Context(), 200*time.Millisecond), "select pg_sleep(600)::text", &got)
		require.ErrorIs(t, err, context.DeadlineExceeded, name)
		assert.ErrorContains(t, err, "the command_timeout of its context (200ms)", name)
	}
}
