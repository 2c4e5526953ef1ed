// Package faultproxy is a proxy between a client and a PostgreSQL server that injects faults into their connections: delay,
// silence, refusal, FIN and RST. It can also lose the reply to a statement after the server has executed it, which only a
// proxy can do, cut the stream at any byte, and speak in the server's place. And it counts what the client sends, so that a
// test can check the number of round trips.
//
//	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
//	db, err := sql.Open("pgprod", proxy.DSN())
//	…
//	proxy.SwallowReply(faultproxy.RST, 1, faultproxy.Containing("insert"))
//
// It must be able to read the protocol's messages, so it refuses requests for TLS.
package faultproxy

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/pgtest/loopback"
)

// A Proxy is a running proxy. It is safe for concurrent use.
type Proxy struct {
	dsn             *url.URL       // for clients of the proxy
	network, target string         // the address of the server
	address         net.Addr       // where the proxy listens, unless it refuses connections
	wg              sync.WaitGroup // all goroutines

	mu         sync.Mutex   // guards what follows; a Conn's mutex may be locked under it
	listener   net.Listener // nil while connections are refused
	closed     bool
	faults     faults      // of connections that come
	greeting   greeting    // of connections that come
	rules      []*rule     // in the order of Inject
	armed      []*ArmedCut // those that have not happened, in the order of Arm
	transcript *[]Passed   // where messages are noted; nil: nowhere
	conns      map[*Conn]bool
	lastID     int
	stats      Stats
}

// Start starts a proxy on a free port of 127.0.0.1, for the server in dsn, which must be a URL. Close it.
func Start(dsn string) (*Proxy, error) {
	p, err := newProxy(dsn)
	if err != nil {
		return nil, err
	}
	listener, err := loopback.Listen()
	if err != nil {
		return nil, fmt.Errorf("faultproxy: %w", err)
	}
	p.dsn.Host = listener.Addr().String()
	p.serve(listener)
	return p, nil
}

// StartUnix is Start on a unix socket in dir, whose path must be short. There is no RST on a unix socket.
func StartUnix(dsn, dir string) (*Proxy, error) {
	p, err := newProxy(dsn)
	if err != nil {
		return nil, err
	}
	const port = 5432
	address := &net.UnixAddr{Net: "unix", Name: filepath.Join(dir, ".s.PGSQL."+strconv.Itoa(port))}
	listener, err := net.ListenUnix("unix", address)
	if err != nil {
		return nil, fmt.Errorf("faultproxy: %w", err)
	}
	query := p.dsn.Query()
	query.Set("host", dir)
	query.Set("port", strconv.Itoa(port))
	p.dsn.Host, p.dsn.RawQuery = "", query.Encode()
	p.serve(listener)
	return p, nil
}

// StartTB is Start for a test, which closes the proxy at its end.
func StartTB(t testing.TB, dsn string) *Proxy {
	t.Helper()
	p, err := Start(dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// newProxy returns a proxy for the server in dsn, which doesn't listen yet.
func newProxy(dsn string) (*Proxy, error) {
	u, err := url.Parse(dsn)
	if err != nil || !strings.HasPrefix(u.Scheme, "postgres") {
		return nil, errors.New("faultproxy: the DSN must be a URL, postgres://…") // without the cause, which may quote a password
	}
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("faultproxy: %w", err)
	}
	query := u.Query()
	query.Del("host")
	query.Del("port")
	u.RawQuery = query.Encode()
	p := &Proxy{dsn: u, conns: map[*Conn]bool{}, stats: Stats{Messages: map[byte]int{}}}
	p.network, p.target = pgconn.NetworkAddress(config.Host, config.Port)
	return p, nil
}

// DSN returns the DSN that was passed to Start, with the proxy's address in place of the server's.
func (p *Proxy) DSN() string { return p.dsn.String() }

// Addr returns the address where the proxy listens.
func (p *Proxy) Addr() net.Addr { return p.address }

// serve accepts connections on the listener.
func (p *Proxy) serve(listener net.Listener) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.serveLocked(listener)
}

// serveLocked is serve with p.mu held.
func (p *Proxy) serveLocked(listener net.Listener) {
	p.address, p.listener = listener.Addr(), listener
	p.wg.Go(func() { p.acceptAll(listener) }) // ends when Refuse or Close closes the listener
}

// acceptAll accepts clients until the listener is closed.
func (p *Proxy) acceptAll(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			if errors.Is(err, syscall.ECONNABORTED) {
				continue // the client left before it was accepted
			}
			return
		}
		p.begin(client)
	}
}

// begin begins a connection for a client that was accepted.
func (p *Proxy) begin(client net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = client.Close()
		return
	}
	p.lastID++
	p.stats.Accepted++
	p.stats.Open++
	c := newConn(p, p.lastID, client, p.faults)
	p.conns[c] = true
	greeting := p.greeting
	p.wg.Go(func() { c.run(greeting) }) // ends when either side, a fault or Close ends the connection
}

// forget removes a connection that has ended.
func (p *Proxy) forget(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// Refuse closes the listener, so that the kernel refuses new connections. Connections that exist aren't changed. Admit
// undoes it.
func (p *Proxy) Refuse() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refuseLocked()
}

// refuseLocked is Refuse with p.mu held.
func (p *Proxy) refuseLocked() error {
	if p.listener == nil {
		return nil
	}
	err := p.listener.Close()
	p.listener = nil
	if err != nil {
		return fmt.Errorf("faultproxy: %w", err)
	}
	return nil
}

// Admit listens again, on the same address, after Refuse.
func (p *Proxy) Admit() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("faultproxy: %w", os.ErrClosed)
	}
	if p.listener != nil {
		return nil
	}
	listener, err := net.Listen(p.address.Network(), p.address.String())
	if err != nil {
		return fmt.Errorf("faultproxy: %w", err)
	}
	p.serveLocked(listener)
	return nil
}

// Conns returns the connections that have not ended, in the order in which they came.
func (p *Proxy) Conns() []*Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	conns := make([]*Conn, 0, len(p.conns))
	for c := range p.conns {
		conns = append(conns, c)
	}
	slices.SortFunc(conns, func(a, b *Conn) int { return a.ID - b.ID })
	return conns
}

// CloseAll ends all connections that exist; new ones are accepted. When it returns the kernel has sent their ends to the
// clients, except with Hold, which ends none.
func (p *Proxy) CloseAll(how End) {
	conns := p.Conns()
	for _, c := range conns {
		c.Close(how)
	}
	for _, c := range conns {
		if how != Hold {
			<-c.gone // Go closes a socket only when no goroutine reads from it any more
		}
	}
}

// Close ends the proxy with all connections and all goroutines. It may be called more than once.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	err := p.refuseLocked()
	p.mu.Unlock()
	p.CloseAll(FIN)
	p.wg.Wait()
	return err
}
