package settings

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// requireTLS makes sslmode=require the default in production where a host isn't local: it parses the DSN once more with that
// if sslmode isn't given anywhere. With libpq's own default, prefer, somebody between the program and the server could turn
// encryption off.
func (l *loader) requireTLS() {
	if l.given.Conn != nil {
		return
	}
	mode, _ := l.sslmode()
	unknown := l.hasService() && l.dsn.service == nil // the service file may have sslmode, but wasn't found where we look
	if *l.values.Environment != Production || allLocal(l.dsn.conn) || mode != "" || unknown {
		return
	}
	text := l.dsn.add("sslmode", "require")
	if _, given := l.dsn.get("sslmode"); given { // as an empty text
		text = l.dsn.replace("sslmode", "require")
	}
	conn, err := pgx.ParseConfig(text)
	if err != nil {
		l.explain(err)
		return
	}
	l.dsn.conn = conn
}

// tlsWarning is a warning for production if connections to a host that isn't local may be unencrypted, and names the sslmode
// that allows it; "": there is nothing to warn of. What a dial function of the application's connects to is its own matter.
func (l *loader) tlsWarning() string {
	exposed := func(e endpoint) bool { return !IsLocal(e.host) && !e.encrypted }
	if *l.values.Environment != Production || l.given.Dials || !slices.ContainsFunc(endpoints(l.dsn.conn), exposed) {
		return ""
	}
	mode, where := l.sslmode()
	if !slices.Contains([]string{"disable", "allow", "prefer"}, mode) {
		mode = "weaker than require"
	}
	return where + ": sslmode is " + mode + ", so that connections to a host that is not local may be unencrypted; " +
		"require encrypts them, verify-full also checks who answers"
}

// sslmode returns the sslmode that was given, "" if none was, and what errors call the place: the DSN, else the service
// file, else PGSSLMODE. A configuration that is given in code doesn't tell.
func (l *loader) sslmode() (mode, where string) {
	if l.given.Conn != nil {
		return "", connOption
	}
	mode, inDSN := l.dsn.get("sslmode")
	if inDSN {
		return mode, l.dsn.name("sslmode")
	}
	if mode, ok := l.dsn.service["sslmode"]; ok {
		return mode, "service file"
	}
	return l.vars["PGSSLMODE"], "variable PGSSLMODE"
}

// An endpoint is one address that pgx may connect to, in one way.
type endpoint struct {
	host      string
	encrypted bool
}

// endpoints are all that pgx will try, in this order.
func endpoints(conn *pgx.ConnConfig) []endpoint {
	all := []endpoint{{conn.Host, conn.TLSConfig != nil}}
	for _, f := range conn.Fallbacks {
		all = append(all, endpoint{f.Host, f.TLSConfig != nil})
	}
	return all
}

// allLocal reports whether all hosts are local.
func allLocal(conn *pgx.ConnConfig) bool {
	return !slices.ContainsFunc(endpoints(conn), func(e endpoint) bool { return !IsLocal(e.host) })
}

// IsLocal reports whether what is sent to a host stays on this machine: it is the directory of a socket, localhost or a
// loopback address.
func IsLocal(host string) bool {
	if network, _ := pgconn.NetworkAddress(host, 0); network == "unix" || strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
