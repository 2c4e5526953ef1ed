package orm

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/docs"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// Order is a row of the manual's section on row-level security.
type Order struct {
	ID   int64
	Item string
}

// orders returns the orders of the tenant of ctx.
func orders(ctx context.Context, db *gorm.DB) (all []Order, err error) {
	err = db.WithContext(ctx).Order("id").Find(&all).Error
	return all, err
}

func TestTheManualsRowLevelSecurityHoldsForGORM(t *testing.T) {
	page, err := docs.Read("internal/docs/sessions.md")
	require.NoError(t, err)
	_, page, found := strings.Cut(page, "\n## Row-level security\n")
	require.True(t, found)
	_, statements, found := strings.Cut(page, "```sql\n")
	require.True(t, found)
	statements, _, _ = strings.Cut(statements, "```\n")
	this, err := os.ReadFile("gorm_manual_test.go")
	require.NoError(t, err)
	_, function, found := strings.Cut(string(this), "// orders returns")
	require.True(t, found)
	function, _, _ = strings.Cut(function, "\n\n")
	require.Contains(t, page, "```go\n// orders returns"+function+"\n```\n", "this is the function that is tested")

	server := pgtest.StartTB(t, pgtest.Config{})
	require.NoError(t, server.Exec(t.Context(), statements))
	g := openGORM(t, gormByName(t, strings.Replace(server.DSN(""), "postgres@", "app@", 1)), &gorm.Config{})
	for _, tenant := range []string{"a", "b"} {
		ctx := pgprod.ContextWithSettings(t.Context(), map[string]string{"app.tenant": tenant})
		require.NoError(t, g.WithContext(ctx).Create(&Order{Item: tenant + "'s"}).Error)
		all, err := orders(ctx, g)
		require.NoError(t, err)
		if assert.Len(t, all, 1) {
			assert.Equal(t, tenant+"'s", all[0].Item)
		}
	}
	all, err := orders(t.Context(), g)
	require.NoError(t, err)
	assert.Empty(t, all, "without a tenant")
}
