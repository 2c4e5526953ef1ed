package link

import (
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/hosts"
)

// backend is what identifies the server's process that serves a connection. Its pid alone doesn't: a pooler makes one up,
// and behind one address there may be several servers.
type backend struct {
	address     string // what was dialled: host and port, or the path of a socket
	pid         uint32
	port        int   // of our end of the TCP connection; 0: it is another kind of connection
	dialled, up int64 // by package clock: when the dial began, and when the login was over
}

// newBackend returns the backend of a connection that was just made.
func newBackend(pg *pgconn.PgConn, address string, dialled, up int64) backend {
	b := backend{address: address, pid: pg.PID(), dialled: dialled, up: up}
	if tcp, ok := pg.Conn().LocalAddr().(*net.TCPAddr); ok {
		b.port = tcp.Port
	}
	return b
}

// ServerMajor returns the server's major version, 0 if it doesn't say one.
func (c *Conn) ServerMajor() int { return majorOf(c.pg.ParameterStatus("server_version")) }

// majorOf returns the major version in a server's server_version, such as "18.1 (Debian 18.1-1)" or "19beta1"; 0: there is
// none.
func majorOf(version string) (major int) {
	for _, r := range version {
		if r < '0' || r > '9' {
			break
		}
		major = 10*major + int(r-'0')
	}
	return major
}

// Address returns what was dialled for the connection: host and port, or the path of a socket. It may be called at any time.
func (c *Conn) Address() string { return c.backend.address }

// A Place is one address of a host.
type Place struct {
	Host    *hosts.Host
	Address string // as Conn.Address returns it
}

// Place returns what the connection was made to. It may be called at any time.
func (c *Conn) Place() Place { return Place{c.host, c.backend.address} }

// clocksDrift is how much a time that was measured on the server may differ from ours: its clock may have been set, and an
// answer takes its time.
const clocksDrift = 2 * time.Second

// IsServedBy reports whether a session that the server's pg_stat_activity shows is that of the connection: it has its
// pid, and either the port of our end as its client_port, or it was started, by package clock, while the connection was
// made. Behind a pooler, which makes a pid up, it is false. It may be called at any time.
func (c *Conn) IsServedBy(pid uint32, clientPort int, started int64) bool {
	b := &c.backend
	if pid == 0 || pid != b.pid {
		return false
	}
	inTime := started >= b.dialled-int64(clocksDrift) && started <= b.up+int64(clocksDrift)
	return inTime || b.port != 0 && b.port == clientPort
}
