// Package faultproxy stands between a client and a PostgreSQL server and injects faults into their real connections:
// delay, silence, refusal, FIN, RST, and, which nothing but a proxy can do, the loss of a statement's reply after the
// statement was executed. It also counts what the client sends, so that a test can say how many round trips there were.
//
//	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
//	db, err := sql.Open("pgprod", proxy.DSN())
//	…
//	proxy.SwallowReply(faultproxy.RST, 1, faultproxy.Containing("insert"))
//
// It reads the protocol's messages, so it answers a request for TLS with no.
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

// Proxy is a running proxy. Its methods may be called from several goroutines.
type Proxy struct {
	dsn             *url.URL // the client's
	network, target string   // the server's
	address         net.Addr // ours, also while refusing
	wg              sync.WaitGroup

	mu       sync.Mutex // guards the fields below
	listener net.Listener
	closed   bool
	faults   faults // of new connections
	greeting greeting
	rules    []*rule
	conns    map[*Conn]bool
	lastID   int
	stats    Stats
}

// Start makes a proxy on a free port of 127.0.0.1 in front of the server of dsn, a URL. Close it.
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

// StartUnix is Start on a unix socket in dir, a directory with a short path. A unix socket knows no RST.
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

// newProxy finds out where the server of dsn is.
func newProxy(dsn string) (*Proxy, error) {
	u, err := url.Parse(dsn)
	if err != nil || !strings.HasPrefix(u.Scheme, "postgres") {
		return nil, errors.New("faultproxy: the DSN must be a URL, postgres://…") // not the cause: it may tell a password
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

// DSN is the DSN that Start got, with the proxy in place of the server.
func (p *Proxy) DSN() string { return p.dsn.String() }

// Addr is where the proxy listens.
func (p *Proxy) Addr() net.Addr { return p.address }

// serve accepts connections on the listener.
func (p *Proxy) serve(listener net.Listener) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.serveLocked(listener)
}

func (p *Proxy) serveLocked(listener net.Listener) {
	p.address, p.listener = listener.Addr(), listener
	p.wg.Go(func() { p.acceptAll(listener) }) // ends when Refuse or Close closes the listener
}

func (p *Proxy) acceptAll(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			if errors.Is(err, syscall.ECONNABORTED) {
				continue // the client left before it was accepted
			}
			return
		}
		p.admit(client)
	}
}

// admit makes a connection of an accepted client.
func (p *Proxy) admit(client net.Conn) {
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

// Refuse closes the listener, so that the kernel refuses new connections; those that exist live on. Admit undoes it.
func (p *Proxy) Refuse() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refuseLocked()
}

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

// Conns are the connections that have not ended, in the order in which they came.
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

// CloseAll ends all connections; new ones are welcome. When it returns the client's kernel knows, but for Hold.
func (p *Proxy) CloseAll(how End) {
	conns := p.Conns()
	for _, c := range conns {
		c.Close(how)
	}
	for _, c := range conns {
		if how != Hold {
			<-c.gone // Go closes a socket for good when nobody reads from it any more
		}
	}
}

// Close ends the proxy, all connections and all goroutines. A second Close is harmless.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	err := p.refuseLocked()
	p.mu.Unlock()
	p.CloseAll(FIN)
	p.wg.Wait()
	return err
}
