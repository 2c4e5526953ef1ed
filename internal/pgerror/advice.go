package pgerror

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"unicode"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// refusesTLS is pgx's text for a server that declines TLS. pgx has neither a type nor a value for this error.
const refusesTLS = "server refused TLS connection"

// refusals say what to look at when the server has refused a connection, by SQLSTATE.
var refusals = map[string]string{
	InvalidPassword:       "the server doesn't accept the password, or the role has none",
	InvalidAuthorization:  "the role may not log in from here: look at pg_hba.conf and at the role",
	InvalidCatalogName:    "there is no such database: look at the DSN",
	InsufficientPrivilege: "the role lacks the right to connect to this database",
	TooManyConnections: "max_connections, or the role's or the database's limit, is used up: keep pool_size + max_overflow of all " +
		"instances together below it",
	CannotConnectNow:       "it is starting, stopping or recovering",
	UndefinedObject:        "look at server_settings",
	CantChangeRuntimeParam: "only the server's own configuration sets it: take it out of server_settings and the DSN",
	InvalidParameterValue:  "look at server_settings",
}

// Advice says what to look at after a dial that failed with err. It returns "" if err suggests nothing. passwordFrom is
// where the password came from, or "" if that isn't known.
func Advice(err error, passwordFrom string) string {
	var (
		name       *net.DNSError
		unknown    x509.UnknownAuthorityError
		wrongHost  x509.HostnameError
		wrongChain *tls.CertificateVerificationError
		network    net.Error
		noMessage  *pgproto3.ExceededMaxBodyLenErr // the other end has sent something else than PostgreSQL's messages
	)
	switch pg := From(err); {
	case pg != nil:
		return adviceOnRefusal(pg, passwordFrom)
	case errors.As(err, &name):
		return "the host's name isn't known: look at the DSN and at DNS"
	case errors.As(err, &wrongHost):
		return "the certificate is for another host: connect by the name that it has"
	case errors.As(err, &unknown), errors.As(err, &wrongChain):
		return "the certificate isn't trusted: sslrootcert must name the authority that signed it"
	case strings.Contains(err.Error(), refusesTLS):
		return "the server has no TLS: turn ssl on there, or change sslmode where the network is to be trusted"
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return "nothing listens there: is the server running, and are host and port right?"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "no answer in time: look at firewalls, at routes, and whether the host is alive"
	case errors.As(err, &noMessage):
		return "what answers there doesn't speak PostgreSQL's protocol: is it the right port, and no proxy for HTTP?"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the other end hung up during the login: look at the server's log, and at what stands in between, proxies and load balancers"
	}
	return ""
}

// adviceOnRefusal is Advice for an error that the server, or a pooler before it, has sent.
func adviceOnRefusal(pg *pgconn.PgError, passwordFrom string) string {
	where, name, unsupported := poolersRefusal(pg.Message)
	switch {
	case pg.Code == FeatureNotSupported && strings.Contains(pg.Message, "command-line options"): // RDS Proxy's words
		return "take options out of the DSN, and unset PGOPTIONS; what they set may stand in server_settings, with " +
			"server_settings_mode=set"
	case pg.Code == InvalidPassword && passwordFrom != "":
		return refusals[pg.Code] + "; it was taken from " + passwordFrom
	case pg.Code == InsufficientPrivilege && strings.Contains(pg.Message, "set parameter"):
		return "take it out of server_settings and the DSN, or GRANT SET ON PARAMETER to the role"
	case !unsupported:
		return refusals[pg.Code]
	case where == inOptions:
		return "the pooler doesn't take it in options: take " + cmp.Or(name, "what isn't -c name=value") + " out of options in the DSN " +
			"and out of PGOPTIONS; in server_settings, server_settings_mode=set sets it after connecting"
	case name == "options":
		return "the pooler doesn't know it: take options out of the DSN, and unset PGOPTIONS; what they set may stand in " +
			"server_settings, with server_settings_mode=set"
	case name == "", name == "replication":
		return "the pooler doesn't know it, take it out of the DSN"
	default:
		return "the pooler doesn't know it: server_settings_mode=set sets it after connecting, server_settings=" + name + "= drops it"
	}
}

// RefusesSetting reports whether a login failed because of a parameter of the server, be it that a pooler doesn't know it or
// that the server doesn't take it.
func RefusesSetting(err error) bool {
	pg := From(err)
	if pg == nil {
		return false
	}
	_, _, byPooler := poolersRefusal(pg.Message)
	return byPooler || pg.Code == UndefinedObject || pg.Code == CantChangeRuntimeParam || pg.Code == InvalidParameterValue ||
		pg.Code == InsufficientPrivilege && strings.Contains(pg.Message, "set parameter")
}

// RefusedSettings returns those of these settings that a failed login was refused for. If several hosts were tried, it
// returns what any of them has refused.
func RefusedSettings(err error, names []string) (refused []string) {
	for _, pg := range allRefusals(err) {
		for _, name := range names {
			if RefusesSetting(pg) && namesWord(pg.Message, name) && !slices.Contains(refused, name) {
				refused = append(refused, name)
			}
		}
	}
	return refused
}

// namesWord reports whether a message has a name as a whole word. The server's messages may be in another language, but have
// the name.
func namesWord(message, name string) bool {
	isName := func(c rune) bool { return c == '_' || c == '.' || unicode.IsLetter(c) || unicode.IsDigit(c) }
	return slices.ContainsFunc(strings.FieldsFunc(message, func(c rune) bool { return !isName(c) }), func(word string) bool {
		return strings.EqualFold(word, name)
	})
}

// These are the places where a pooler finds a parameter that it doesn't accept.
const (
	inStartup = iota // the parameters of the startup message
	inOptions        // the startup parameter options, which contains others
)

// refusedParameter matches PgBouncer's message about a parameter that it doesn't accept. PgBouncer 1.18 doesn't accept
// options at all; from 1.20 on it accepts some of the parameters in it.
var refusedParameter = regexp.MustCompile(`^(?i:unsupported (options )?startup parameter( in options)?)(?:: ([^\s=]+))?`)

// poolersRefusal reports whether a message is a pooler's about a parameter that it doesn't accept. where is the place of the
// parameter, and name its name, or "" if the pooler doesn't name it.
func poolersRefusal(message string) (where int, name string, ok bool) {
	found := refusedParameter.FindStringSubmatch(message)
	switch {
	case found == nil:
		return 0, "", false
	case found[1] != "":
		return inOptions, "", true // what follows is not a name, but says what is allowed
	case found[2] != "":
		return inOptions, found[3], true
	}
	return inStartup, found[3], true
}
