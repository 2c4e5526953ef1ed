package profiles

import (
	"database/sql"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// open opens a pool of one connection, which exists. The end of the test closes it.
func open(t *testing.T) *sql.DB {
	t.Helper()
	db, err := pgprod.Open(pgtest.NewDatabase(t)+"&pool_size=1&max_overflow=0", pgprod.WithPreflight(false))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, db.PingContext(t.Context()))
	return db
}
