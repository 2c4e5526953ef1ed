package settings

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Destination lists where the pool connects to, as what, and how. The DSN, libpq's variables and files all have a say in it.
func (c *Config) Destination() []Shown {
	cc, hosts := c.Conn, []string(nil)
	for _, f := range append([]*pgconn.FallbackConfig{{Host: cc.Host, Port: cc.Port}}, cc.Fallbacks...) {
		host := net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port)))
		if !slices.Contains(hosts, host) { // a host occurs twice where TLS is optional
			hosts = append(hosts, host)
		}
	}
	const source = "connection"
	return []Shown{
		{Key: "host", Value: strings.Join(hosts, ","), Source: source},
		{Key: "database", Value: cc.Database, Source: source},
		{Key: "user", Value: cc.User, Source: source},
		{Key: "sslmode", Value: sslMode(cc), Source: source},
		{Key: "target_session_attrs", Value: cmp.Or(c.TargetSessionAttrs, "any"), Source: source},
	}
}

// sslMode is what pgx has made of sslmode for the first host.
func sslMode(cc *pgx.ConnConfig) string {
	optional := false // the same host once more, the other way round
	for _, f := range cc.Fallbacks {
		optional = optional || f.Host == cc.Host && f.Port == cc.Port && (f.TLSConfig == nil) != (cc.TLSConfig == nil)
	}
	switch {
	case cc.TLSConfig == nil && optional:
		return "allow"
	case cc.TLSConfig == nil:
		return "disable"
	case optional:
		return "prefer"
	case !cc.TLSConfig.InsecureSkipVerify:
		return "verify-full"
	case cc.TLSConfig.VerifyPeerCertificate != nil:
		return "verify-ca"
	}
	return "require"
}
