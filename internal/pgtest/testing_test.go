package pgtest_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

func TestEachTestGetsItsOwnDatabaseOnTheSharedServer(t *testing.T) {
	first, second := pgtest.NewDatabase(t), pgtest.NewDatabase(t)
	assert.NotEqual(t, first, second)
	assert.Equal(t, pgtest.DatabaseName(first), query(t, first, "select current_database()"))
	assert.Contains(t, pgtest.DatabaseName(first), "t_testeachtestgetsitsowndatabase")
	assert.Same(t, pgtest.Shared(t), pgtest.Shared(t))
}

func TestADatabaseIsDroppedAtTheEndOfItsTest(t *testing.T) {
	var name string
	t.Run("test", func(t *testing.T) { name = pgtest.DatabaseName(pgtest.NewDatabase(t)) })
	found := query(t, pgtest.Shared(t).DSN(""), "select count(*)::text from pg_database where datname = $1", name)
	assert.Equal(t, "0", found)
}

// recorder is a test whose failure is expected.
type recorder struct {
	testing.TB
	cleanups []func()
	failures []string
}

func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Error(args ...any) {
	for _, arg := range args {
		r.failures = append(r.failures, arg.(error).Error())
	}
}

func TestAConnectionThatOutlivesItsTestFailsIt(t *testing.T) {
	t.Parallel() // it takes seconds
	r := &recorder{TB: t}
	conn, err := pgx.Connect(t.Context(), pgtest.NewDatabase(r))
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "select 'the leak'")
	require.NoError(t, err)
	for _, cleanup := range r.cleanups {
		cleanup()
	}
	require.Len(t, r.failures, 1)
	assert.Contains(t, r.failures[0], "select 'the leak'")
	assert.Contains(t, strings.ToLower(r.failures[0]), "left open")
	require.Error(t, conn.Ping(t.Context()), "the database was dropped all the same")
}
