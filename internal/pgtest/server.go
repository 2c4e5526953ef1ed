package pgtest

import (
	"context"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"sync"
)

// Config says how Start sets up a server. The zero value is a primary without TLS that trusts all local clients.
type Config struct {
	// Settings go into postgresql.conf, and win over pgtest's own, which are for a small and fast server: fsync is off,
	// there are 200 connections. Default: none.
	Settings map[string]string
	// HBA are the lines of pg_hba.conf. Default: the method trust, or scram-sha-256 if Password is set, for the unix socket,
	// 127.0.0.1 and ::1.
	HBA []string
	// Password is the password of the user postgres. A standby has its primary's instead. Default: none.
	Password string
	// TLS makes the server speak TLS. Default: nil, it doesn't.
	TLS *TLS
	// StandbyOf makes the server a streaming standby of another one that Start has started. Default: nil, it is a primary.
	StandbyOf *Server
	// Major is the major version of the server (14 to 18), which Download then supplies. Default: 0, the one that Locate finds.
	Major int
	// Port is the TCP port. Default: 0, which is a free one; with an Address 5432, which only one server can have there.
	Port int
	// Address is where the server listens, and where its standbys find it. Default: "", which is 127.0.0.1, and the unix socket
	// for its standbys. A server with an Address lets in everybody who reaches it, if HBA and Password don't say otherwise.
	Address string
	// Network is where the server's processes are started. Default: nil, which is where this process is.
	Network Network
}

// A Network is another one than the machine's, such as a network namespace.
type Network interface {
	// Do calls start in a goroutine that is locked to a thread of this network: processes that start starts belong to it.
	Do(start func() error) error
}

func (c Config) clone() Config {
	c.Settings = maps.Clone(c.Settings)
	c.HBA = slices.Clone(c.HBA)
	return c
}

// superuser is the user in the DSNs.
const superuser = "postgres"

// A Server is a PostgreSQL server. It is safe for concurrent use.
type Server struct {
	prog    programs
	account account
	home    *home
	config  Config
	port    int
	caFile  string // "" without TLS

	// external is the URL of a server that this process didn't start, and can't control; else nil.
	external *url.URL

	// control holds a token while an operation starts, stops or signals the postmaster; see exclusively.
	control chan struct{}
	// life ends when Stop is called, and with it the context of the operation under way.
	life context.Context
	end  context.CancelCauseFunc

	mu       sync.Mutex // guards the fields below
	proc     *process   // nil before the first start
	password string
	stopped  bool
}

// Host is the host to connect to by TCP.
func (s *Server) Host() string {
	switch {
	case s.external != nil:
		return s.external.Hostname()
	case s.config.Address != "":
		return s.config.Address
	}
	return "127.0.0.1"
}

// Port is the TCP port, the same over the server's whole life.
func (s *Server) Port() int { return s.port }

// SocketDir is the directory of the unix socket, for the setting host; "" for an external server.
func (s *Server) SocketDir() string {
	if s.home == nil {
		return ""
	}
	return s.home.socket
}

// DataDir is the data directory; "" for an external server.
func (s *Server) DataDir() string {
	if s.home == nil {
		return ""
	}
	return s.home.data()
}

// LogFile is the server's log; "" for an external server.
func (s *Server) LogFile() string {
	if s.home == nil {
		return ""
	}
	return s.home.log()
}

// CAFile is the file with the certificate of the authority that has signed the server's, for sslrootcert; "" without TLS.
func (s *Server) CAFile() string { return s.caFile }

// Version is the major version, such as 15.
func (s *Server) Version() int { return s.prog.major }

// External reports whether the server is the one that DB_TEST_DSN names, so that it can't be restarted, crashed, frozen or
// promoted.
func (s *Server) External() bool { return s.external != nil }

// DSN returns the URL of a database ("": postgres) for the user postgres over TCP, with sslmode=disable or, if the server
// speaks TLS, verify-full. For an external server user and parameters are those of DB_TEST_DSN.
func (s *Server) DSN(database string) string {
	if s.external != nil {
		u := *s.external
		u.Path = databasePath(database)
		return u.String()
	}
	query := url.Values{"sslmode": {"disable"}}
	if s.caFile != "" {
		query = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {s.caFile}}
	}
	u := url.URL{
		Scheme: "postgres", User: s.userinfo(),
		Host: net.JoinHostPort(s.Host(), strconv.Itoa(s.port)), Path: databasePath(database), RawQuery: query.Encode(),
	}
	return u.String()
}

// SocketDSN is DSN through the unix socket. For an external server, whose socket isn't known, it is DSN.
func (s *Server) SocketDSN(database string) string {
	if s.external != nil {
		return s.DSN(database)
	}
	query := url.Values{"host": {s.home.socket}, "port": {strconv.Itoa(s.port)}, "sslmode": {"disable"}}
	u := url.URL{Scheme: "postgres", User: s.userinfo(), Path: databasePath(database), RawQuery: query.Encode()}
	return u.String()
}

func databasePath(database string) string {
	if database == "" {
		return "/postgres"
	}
	return "/" + database
}

func (s *Server) userinfo() *url.Userinfo {
	if password := s.currentPassword(); password != "" {
		return url.UserPassword(superuser, password)
	}
	return url.User(superuser)
}

func (s *Server) currentPassword() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.password
}

// current returns the postmaster that was started last, which may have ended; nil before the first start.
func (s *Server) current() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc
}
