package settings

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// requireTLS parses the DSN once more with sslmode=require, if it is for production, some host is not local, and nobody
// said a word about sslmode. libpq's own default, prefer, would go on without encryption if anyone in between asked.
func (l *loader) requireTLS() {
	mode, _ := l.sslmode()
	unknown := l.hasService() && l.dsn.service == nil // pgx found a service file where we don't look
	if *l.values.Environment != Production || allLocal(l.dsn.conn) || mode != "" || unknown {
		return
	}
	text := l.dsn.add("sslmode", "require")
	if _, given := l.dsn.get("sslmode"); given { // and empty
		text = l.dsn.replace("sslmode", "require")
	}
	conn, err := pgx.ParseConfig(text)
	if err != nil {
		l.explain(err)
		return
	}
	l.dsn.conn = conn
}

// tlsWarning says which choice may leave the way to a host that is not local unencrypted.
func (l *loader) tlsWarning() string {
	exposed := func(e endpoint) bool { return !IsLocal(e.host) && !e.encrypted }
	if *l.values.Environment != Production || !slices.ContainsFunc(endpoints(l.dsn.conn), exposed) {
		return ""
	}
	mode, where := l.sslmode()
	if !slices.Contains([]string{"disable", "allow", "prefer"}, mode) {
		mode = "weaker than require"
	}
	return where + ": sslmode is " + mode + ", so that connections to a host that is not local may be unencrypted; " +
		"require encrypts them, verify-full also checks who answers"
}

// sslmode is the mode that was given and where: in the DSN, else in the service file, else in PGSSLMODE.
func (l *loader) sslmode() (mode, where string) {
	mode, inDSN := l.dsn.get("sslmode")
	if inDSN {
		return mode, l.dsn.name("sslmode")
	}
	if mode, ok := l.dsn.service["sslmode"]; ok {
		return mode, "service file"
	}
	return l.vars["PGSSLMODE"], "variable PGSSLMODE"
}

type endpoint struct {
	host      string
	encrypted bool
}

// endpoints are all that pgx will try, in turn.
func endpoints(conn *pgx.ConnConfig) []endpoint {
	all := []endpoint{{conn.Host, conn.TLSConfig != nil}}
	for _, f := range conn.Fallbacks {
		all = append(all, endpoint{f.Host, f.TLSConfig != nil})
	}
	return all
}

func allLocal(conn *pgx.ConnConfig) bool {
	return !slices.ContainsFunc(endpoints(conn), func(e endpoint) bool { return !IsLocal(e.host) })
}

// IsLocal tells whether packets to a host stay on this machine.
func IsLocal(host string) bool {
	if network, _ := pgconn.NetworkAddress(host, 0); network == "unix" || strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
