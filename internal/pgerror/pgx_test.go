package pgerror

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// connect has pgx connect to the hosts of dsn. What each of them answers to the first message is in answers; to a host that
// isn't there no connection comes about.
func connect(t *testing.T, dsn string, answers map[string]string) error {
	t.Helper()
	cfg, err := pgconn.ParseConfig("user=u database=d port=5432 " + dsn)
	require.NoError(t, err)
	cfg.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	cfg.DialFunc = func(_ context.Context, _, address string) (net.Conn, error) {
		host, _, _ := net.SplitHostPort(address)
		answer, ok := answers[host]
		if !ok {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("no route to host")}
		}
		client, server := net.Pipe()
		go func() { // ends when pgx closes the connection
			defer server.Close()
			_, _ = server.Read(make([]byte, 1024))
			_, _ = io.WriteString(server, answer)
		}()
		return client, nil
	}
	_, err = pgconn.ConnectConfig(t.Context(), cfg)
	require.Error(t, err)
	return err
}

// fatal is the message with which a server refuses a connection.
func fatal(t *testing.T, code string) string {
	t.Helper()
	message := pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code, Message: "no", Routine: "here"}
	wire, err := message.Encode(nil)
	require.NoError(t, err)
	return string(wire)
}

func TestPgxStillSaysThatAServerRefusesTLS(t *testing.T) {
	t.Parallel()
	err := connect(t, "host=a sslmode=require", map[string]string{"a": "N"})
	require.ErrorContains(t, err, refusesTLS)
	assert.Equal(t, Final, ProspectOf(err, true))
	assert.Contains(t, Advice(err, ""), "the server has no TLS")
}

func TestPgxStillTakesWhatDoesntSpeakTheProtocolForMessagesThatAreTooLong(t *testing.T) {
	t.Parallel()
	err := connect(t, "host=a sslmode=disable", map[string]string{"a": "HTTP/1.1 400 Bad Request\r\n\r\n"})
	assert.Contains(t, Advice(err, ""), "doesn't speak PostgreSQL's protocol", "%v", err)
	assert.Equal(t, Passing, ProspectOf(err, false))
}

func TestPgxStillGivesTheAnswersOfAllHostsOut(t *testing.T) {
	t.Parallel()
	err := connect(t, "host=a,b sslmode=disable", map[string]string{"a": fatal(t, "28000"), "b": fatal(t, "XX000")})
	var codes []string
	for _, pg := range allRefusals(err) {
		codes = append(codes, pg.Code)
	}
	assert.Equal(t, []string{"28000", "XX000"}, codes)
	assert.Equal(t, Doubtful, ProspectOf(err, false), "the second host's")
	assert.Equal(t, "28000", From(err).Code)
	assert.True(t, IsFatal(err))
	assert.Equal(t, "here", From(err).Routine)
}

func TestPgxStillGivesTheNetworksErrorsOutBesideTheServers(t *testing.T) {
	t.Parallel()
	err := connect(t, "host=a,b sslmode=disable", map[string]string{"b": fatal(t, "28P01")})
	assert.Len(t, allRefusals(err), 1)
	assert.Equal(t, Passing, ProspectOf(err, false), "the host that can't be reached may come back")
}

func TestPgxStillGivesTheEndOfAConnectionOut(t *testing.T) {
	t.Parallel()
	err := connect(t, "host=a sslmode=disable", map[string]string{"a": ""})
	assert.Contains(t, Advice(err, ""), "the other end hung up during the login", "%v", err)
}
