package pool

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// refusals say what to look at when the server refuses a connection, by SQLSTATE.
var refusals = map[string]string{
	"28P01": "the server doesn't accept the password, or the role has none",
	"28000": "the role may not log in from here: look at pg_hba.conf and at the role",
	"3D000": "there is no such database: look at the DSN",
	"42501": "the role lacks the right to connect to this database",
	"53300": "max_connections, or the role's or the database's limit, is used up: keep pool_size + max_overflow of all " +
		"instances together below it",
	"57P03": "it is starting, stopping or recovering",
	"42704": "look at server_settings",
	"55P02": "only the server's own configuration sets it: take it out of server_settings and the DSN",
	"22023": "look at server_settings",
}

// hint says what to look at, in brackets, or nothing.
func (e *dialError) hint() string {
	hint := e.advice()
	if e.noDSN != "" {
		hint = strings.TrimPrefix(hint+"; "+e.noDSN, "; ")
	}
	if hint == "" {
		return ""
	}
	return " (" + hint + ")"
}

func (e *dialError) advice() string {
	var (
		pg         *pgconn.PgError
		name       *net.DNSError
		unknown    x509.UnknownAuthorityError
		wrongHost  x509.HostnameError
		wrongChain *tls.CertificateVerificationError
		network    net.Error
		password   *passwordError
	)
	err := e.cause
	switch {
	case errors.As(err, &password):
		return "there is no password to log in with"
	case errors.As(err, &pg):
		return e.refusal(pg)
	case errors.As(err, &name):
		return "the host's name isn't known: look at the DSN and at DNS"
	case errors.As(err, &wrongHost):
		return "the certificate is for another host: connect by the name that it has"
	case errors.As(err, &unknown), errors.As(err, &wrongChain):
		return "the certificate isn't trusted: sslrootcert must name the authority that signed it"
	case strings.Contains(err.Error(), "server refused TLS connection"):
		return "the server has no TLS: turn ssl on there, or change sslmode where the network is to be trusted"
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return "nothing listens there: is the server running, and are host and port right?"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "no answer in time: look at firewalls, at routes, and whether the host is alive"
	case strings.Contains(err.Error(), "invalid body length"):
		return "what answers there doesn't speak PostgreSQL's protocol: is it the right port, and no proxy for HTTP?"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the other end hung up during the login: look at the server's log, and at what stands in between, proxies and load balancers"
	}
	return ""
}

// refusal is the advice for what the server, or a pooler before it, said.
func (e *dialError) refusal(pg *pgconn.PgError) string {
	parameter, unsupported := strings.CutPrefix(pg.Message, unknownParameter)
	switch name := strings.TrimPrefix(parameter, ": "); {
	case pg.Code == "28P01" && e.passwordFrom != "":
		return refusals[pg.Code] + "; it was taken from " + e.passwordFrom
	case pg.Code == "42501" && strings.Contains(pg.Message, "set parameter"):
		return "take it out of server_settings and the DSN, or GRANT SET ON PARAMETER to the role"
	case !unsupported:
		return refusals[pg.Code]
	case name == "", name == "options", name == "replication":
		return "the pooler doesn't know it, take it out of the DSN"
	default:
		return "the pooler doesn't know it: server_settings_mode=set sets it after connecting, server_settings=" + name + "= drops it"
	}
}

// passwordFrom is where the password comes from, "" if that isn't ours to know.
func (p *Pool) passwordFrom() string {
	switch {
	case p.hooks.Password != nil:
		return "WithPasswordFunc"
	case p.cfg.PasswordFile != "":
		return "password_file"
	case p.cfg.PasswordInDSN:
		return "the DSN"
	}
	return ""
}
