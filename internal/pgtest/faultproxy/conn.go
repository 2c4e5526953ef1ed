package faultproxy

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Conn is one connection through the proxy.
type Conn struct {
	// ID counts the proxy's connections from 1.
	ID int

	proxy   *Proxy
	client  net.Conn
	session *session
	queues  [2]chan packet // by Direction
	pid     atomic.Uint32
	life    context.Context // ends with the connection
	end     context.CancelFunc
	gone    chan struct{} // closed when all goroutines of the connection have ended
	ending  sync.Once     // guards Close
	leaving sync.Once     // guards clientLeft

	mu     sync.Mutex // guards the fields below
	server net.Conn   // nil until connected
	faults faults
}

// packet is what one side sent, on its way to the other: a message, or the end of the connection.
type packet struct {
	sent time.Time
	data []byte
	end  bool
	how  End
}

// queueLength is how many packets may be under way in a direction before we stop reading.
const queueLength = 1024

func newConn(p *Proxy, id int, client net.Conn, f faults) *Conn {
	c := &Conn{ID: id, proxy: p, client: client, session: newSession(), faults: f}
	c.queues = [2]chan packet{make(chan packet, queueLength), make(chan packet, queueLength)}
	c.life, c.end = context.WithCancel(context.Background())
	c.gone = make(chan struct{})
	return c
}

// PID is the process number of the connection's backend, or 0 while it has none.
func (c *Conn) PID() uint32 { return c.pid.Load() }

// SetLatency delays all bytes in a direction.
func (c *Conn) SetLatency(d Direction, latency time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults.latency[d] = latency
}

// BlackHole swallows all that goes in a direction, as Proxy.BlackHole.
func (c *Conn) BlackHole(d Direction, on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults.blackHole[d] = on
}

func (c *Conn) fault(d Direction) (latency time.Duration, blackHole bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.faults.latency[d], c.faults.blackHole[d]
}

// Close ends the connection on both sides. Hold swallows what the server sends from now on instead.
func (c *Conn) Close(how End) {
	if how == Hold {
		c.BlackHole(ToClient, true)
		return
	}
	c.ending.Do(func() {
		c.end()
		if tcp, ok := c.client.(*net.TCPConn); ok && how == RST {
			_ = tcp.SetLinger(0) // makes Close send RST
		}
		_ = c.client.Close()
		c.mu.Lock()
		if c.server != nil {
			_ = c.server.Close()
		}
		c.mu.Unlock()
		c.clientLeft()
	})
}

// HalfClose sends the client a FIN and goes on passing what it sends to the server.
func (c *Conn) HalfClose() error {
	half, ok := c.client.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

// clientLeft counts a client that has closed its connection, or whose connection we have closed, once.
func (c *Conn) clientLeft() {
	c.leaving.Do(func() { c.proxy.count(func(s *Stats) { s.Open-- }) })
}

// run greets the client, connects it to the server, and passes messages until the connection has ended.
func (c *Conn) run(g greeting) {
	defer close(c.gone)
	defer c.proxy.forget(c)
	defer c.Close(FIN)
	if g.silent {
		c.ignore()
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	// All goroutines end when Close has ended life and closed both sockets, which the end of either side leads to.
	wg.Go(c.readClient)
	if !c.sleep(g.delay) || !c.connect() {
		c.Close(RST)
		return
	}
	wg.Go(c.readServer)
	wg.Go(func() { c.deliver(ToServer, c.server) })
	wg.Go(func() { c.deliver(ToClient, c.client) })
	<-c.life.Done()
}

// ignore reads what the client sends until it leaves.
func (c *Conn) ignore() {
	buffer := make([]byte, 1024)
	for {
		if _, err := c.client.Read(buffer); err != nil {
			return
		}
	}
}

// connect dials the server, and returns false if it can't, or if the connection ended in between.
func (c *Conn) connect() bool {
	server, err := new(net.Dialer).DialContext(c.life, c.proxy.network, c.proxy.target)
	if err != nil {
		return false
	}
	c.mu.Lock()
	c.server = server
	c.mu.Unlock()
	if c.life.Err() != nil { // Close may have come too early to see it
		_ = server.Close()
		return false
	}
	return true
}

// sleep waits, and returns false if the connection ended in between.
func (c *Conn) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.life.Done():
		return false
	}
}

// send queues a packet, unless the connection has ended.
func (c *Conn) send(d Direction, p packet) {
	p.sent = time.Now()
	select {
	case c.queues[d] <- p:
	case <-c.life.Done():
	}
}

// deliver passes what is queued to its receiver, each after its latency. Once something was swallowed nothing follows but
// the end: a TCP stream has no holes.
func (c *Conn) deliver(d Direction, receiver net.Conn) {
	torn := false
	for {
		var p packet
		select {
		case p = <-c.queues[d]:
		case <-c.life.Done():
			return
		}
		latency, _ := c.fault(d)
		if !c.sleep(time.Until(p.sent.Add(latency))) {
			return
		}
		if _, lost := c.fault(d); lost {
			torn = true
			continue
		}
		if p.end {
			torn = torn || p.how == Hold // which lets it live on
			c.Close(p.how)
			continue
		}
		if torn {
			continue
		}
		if _, err := receiver.Write(p.data); err != nil {
			c.lose(d, err)
		}
	}
}

// lose ends a connection whose receiver in direction d has gone, unless a black hole hides that from the other side.
func (c *Conn) lose(d Direction, err error) {
	if _, hidden := c.fault(1 - d); !hidden {
		c.Close(endOf(err))
	}
}

// endOf is how the other side should see the end of this one.
func endOf(err error) End {
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return RST
	}
	return FIN
}

// readClient passes the client's messages on, first the startup, then the typed ones.
func (c *Conn) readClient() {
	r := bufio.NewReader(c.client)
	err := c.readStartups(r)
	for err == nil {
		var m message
		if m, err = readMessage(r); err == nil {
			c.request(m)
		}
	}
	c.clientLeft()
	c.send(ToServer, packet{end: true, how: endOf(err)})
}

// readStartups handles what comes before the typed messages, and returns when those begin.
func (c *Conn) readStartups(r *bufio.Reader) error {
	for {
		code, raw, err := readStartup(r)
		if err != nil {
			return err
		}
		switch code {
		case sslRequest, gssEncRequest:
			c.proxy.count(func(s *Stats) { s.TLSRequests++ })
			c.send(ToClient, packet{data: []byte{'N'}})
			continue
		case cancelRequest:
			c.proxy.count(func(s *Stats) { s.Cancels++ })
		default:
			c.proxy.count(func(s *Stats) { s.Startups++ })
		}
		c.send(ToServer, packet{data: raw})
		return nil
	}
}

// request passes one message of the client on, unless a rule keeps it from the server.
func (c *Conn) request(m message) {
	rule := c.session.request(c.proxy, m)
	if rule == nil || !rule.Unsent {
		c.send(ToServer, packet{data: m.raw})
		return
	}
	// The whole trip must have come, so that a FIN finds nothing unread, which would make it an RST.
	if m.kind == 'Q' || m.kind == 'S' {
		c.Close(rule.End)
	}
}

// readServer passes the server's messages on, unless a rule says otherwise.
func (c *Conn) readServer() {
	r := bufio.NewReader(c.server)
	trip, passed := 0, 0
	for {
		m, err := readMessage(r)
		if err != nil {
			c.send(ToClient, packet{end: true, how: endOf(err)})
			return
		}
		if m.kind == 'K' {
			c.pid.Store(binary.BigEndian.Uint32(m.body()))
		}
		rule := c.session.rule(trip)
		if rule == nil || passed < rule.Pass {
			c.send(ToClient, packet{data: m.raw})
		}
		passed++
		if m.kind != 'Z' {
			continue
		}
		if rule != nil {
			c.send(ToClient, packet{end: true, how: rule.End})
		}
		trip, passed = trip+1, 0
	}
}
