//go:build linux

package lab

import (
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/lab/netlab"
)

// connections is how many connections a pool makes in a test of dialling.
const connections = 8

func TestADeadFirstHostOfThreeCostsAFirstDialLittleAndLaterOnesNothing(t *testing.T) {
	c := newCluster(t, setup{})
	deadFirst := c.dsn(2, 0, 1) + "&connect_timeout=30"
	c.set(t, 2, netlab.Cut)
	for range *runs {
		first, later := dialTimes(t, deadFirst)
		base, baseLater := dialTimes(t, c.dsn(0, 1))
		assert.Less(t, first, 15*time.Second, "half of connect_timeout")
		assert.Less(t, later, 15*time.Second)
		dials.add("the first host is dead: pgprod", first, later)
		dials.add("without that host: pgprod", base, baseLater)
	}
	for range *rivals {
		db, err := sql.Open("pgx", patient(c.dsn(2, 0, 1)))
		require.NoError(t, err)
		first, later := timesOf(t, db)
		dials.add("the first host is dead: pgx", first, later)
	}
}

// dialTimes returns how long the first statement of a pool takes, and then the longest of several that need connections of their
// own.
func dialTimes(t *testing.T, dsn string) (first, later time.Duration) {
	return timesOf(t, newPool(t, dsn))
}

func timesOf(t *testing.T, db *sql.DB) (first, later time.Duration) {
	defer func() { assert.NoError(t, db.Close()) }()
	for i := range connections {
		begin := time.Now()
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		_, err = conn.ExecContext(t.Context(), "select 1")
		require.NoError(t, err)
		took := time.Since(begin)
		defer func() { assert.NoError(t, conn.Close()) }()
		if i == 0 {
			first = took
		} else {
			later = max(later, took)
		}
	}
	return first, later
}
