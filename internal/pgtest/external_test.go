package pgtest

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAnExternalServerServesDatabasesAndRefusesControl(t *testing.T) {
	own := StartTB(t, Config{})
	server, err := attach(t.Context(), own.DSN("")+"&application_name=outside")
	require.NoError(t, err)
	assert.True(t, server.External())
	assert.Equal(t, own.Version(), server.Version())
	assert.Equal(t, own.Port(), server.Port())
	assert.Equal(t, own.Host(), server.Host())

	conn, err := pgx.Connect(t.Context(), server.NewDatabase(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(t.Context())) })
	require.ErrorIs(t, server.TerminateAll(t.Context()), ErrExternal)
	require.NoError(t, server.TerminateAll(t.Context(), "outside"))
	require.Error(t, conn.Ping(t.Context()))

	require.ErrorIs(t, server.Crash(), ErrExternal)
	require.ErrorIs(t, server.Restart(t.Context(), Fast), ErrExternal)
	require.ErrorIs(t, server.Promote(t.Context()), ErrExternal)
	require.NoError(t, server.Stop(t.Context()))
	require.NoError(t, own.Exec(t.Context(), "select 1"), "Stop left it alone")
}

func TestADBTESTDSNThatIsNoURLIsRefusedWithoutShowingIt(t *testing.T) {
	_, err := attach(t.Context(), "host=localhost password=secret")
	require.ErrorContains(t, err, "URL")
	assert.NotContains(t, err.Error(), "secret")
}
