package orm

import (
	"database/sql"
	"testing"

	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// goose translates the names that it knows: its command and OpenDBWithDriver use pgx for "postgres", whoever has that
// name. A *sql.DB of ours, as in package tools, is the only way.
func TestGooseOpensPgxByTheNamePostgresAndNotWhatIsRegisteredUnderIt(t *testing.T) {
	pgprod.Register("postgres")
	dsn := pgtest.NewDatabase(t)
	ours, err := sql.Open("postgres", dsn)
	require.NoError(t, err)
	defer ours.Close()
	_, err = pgprod.Status(ours)
	require.NoError(t, err)

	for _, name := range []string{"postgres", "pgx"} {
		theirs, err := goose.OpenDBWithDriver(name, dsn)
		require.NoError(t, err)
		defer theirs.Close()
		_, err = pgprod.Status(theirs)
		assert.ErrorContains(t, err, "*stdlib.Driver", name)
	}
}
