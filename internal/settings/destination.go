package settings

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Destination lists where the pool connects to, as what, and how. The DSN, libpq's variables and files all have a say in it.
func (c *Config) Destination() []Shown {
	cc, hosts := c.Conn, []string(nil)
	for _, h := range c.Hosts() {
		hosts = append(hosts, net.JoinHostPort(h.Host, strconv.Itoa(int(h.Port))))
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

// A Host is one of those that the pool connects to: a name, an IP address or the directory of a socket, and the port.
type Host struct {
	Host string
	Port uint16
}

// Hosts returns the hosts in their configured order, each once.
func (c *Config) Hosts() []Host {
	hosts := []Host{{c.Conn.Host, c.Conn.Port}}
	for _, f := range c.Conn.Fallbacks {
		if h := (Host{f.Host, f.Port}); !slices.Contains(hosts, h) { // a host occurs twice where TLS is optional
			hosts = append(hosts, h)
		}
	}
	return hosts
}

// Namespace returns the database. Without a name of it in the DSN the server takes the user's.
func (c *Config) Namespace() string { return cmp.Or(c.Conn.Database, c.Conn.User) }

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
