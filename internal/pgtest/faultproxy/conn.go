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

// A Conn is one connection through the proxy. It is safe for concurrent use.
//
// Besides run it has four goroutines. One reads the client's messages and one the server's; both put them into queues, unless a rule
// says otherwise. Two more take them out of the queues, after the latency, and write them to the other side.
type Conn struct {
	// ID is the number of the connection; the proxy counts them from 1.
	ID int

	proxy   *Proxy
	client  net.Conn
	session *session
	queues  [2]chan packet // by Direction
	pid     atomic.Uint32
	cut     atomic.Pointer[ArmedCut] // the Cut that has happened; nil: none
	life    context.Context          // ends with the connection
	end     context.CancelFunc       // ends life
	gone    chan struct{}            // closed when all goroutines of the connection have ended
	ending  sync.Once                // of Close
	leaving sync.Once                // of clientLeft

	clientGone, serverGone chan struct{} // closed when the side has closed its connection, or it was closed here

	mu     sync.Mutex // guards what follows
	server net.Conn   // nil: not connected yet
	faults faults
}

// A packet is what one side has sent, on its way to the other: a message, or the end of the connection.
type packet struct {
	sent  time.Time
	data  []byte // the message
	kind  byte   // its type; 0: it has none
	aside bool   // no Cut counts it, since it is the proxy's own or a cancel request
	end   bool   // it is the end of the connection
	sever bool   // it is the end of the connection by a Cut
	how   End    // how the connection ends
}

// queueLength is how many packets may be under way in a direction before no more are read.
const queueLength = 1024

func newConn(p *Proxy, id int, client net.Conn, f faults) *Conn {
	c := &Conn{ID: id, proxy: p, client: client, session: newSession(), faults: f}
	c.queues = [2]chan packet{make(chan packet, queueLength), make(chan packet, queueLength)}
	c.life, c.end = context.WithCancel(context.Background())
	c.gone, c.clientGone, c.serverGone = make(chan struct{}), make(chan struct{}), make(chan struct{})
	return c
}

// PID returns the process number of the connection's backend; 0: the server hasn't told it yet.
func (c *Conn) PID() uint32 { return c.pid.Load() }

// SetLatency delays all bytes in a direction. 0 ends it.
func (c *Conn) SetLatency(d Direction, latency time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults.latency[d] = latency
}

// BlackHole is Proxy.BlackHole for this connection.
func (c *Conn) BlackHole(d Direction, on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults.blackHole[d] = on
}

// fault returns the faults of a direction.
func (c *Conn) fault(d Direction) (latency time.Duration, blackHole bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.faults.latency[d], c.faults.blackHole[d]
}

// Close ends the connection on both sides, for the client as how says. With Hold it doesn't end: what the server sends from
// now on is swallowed.
func (c *Conn) Close(how End) {
	if how == Hold {
		c.BlackHole(ToClient, true)
		return
	}
	c.ending.Do(func() {
		c.end()
		c.closeClient(how)
		c.mu.Lock()
		if c.server != nil {
			_ = c.server.Close()
		}
		c.mu.Unlock()
		c.clientLeft()
	})
}

// closeClient closes the client's connection.
func (c *Conn) closeClient(how End) {
	if tcp, ok := c.client.(*net.TCPConn); ok && how == RST {
		_ = tcp.SetLinger(0) // makes Close send RST
	}
	_ = c.client.Close()
}

// HalfClose sends the client a FIN. What the client sends still goes to the server.
func (c *Conn) HalfClose() error { return closeWrite(c.client) }

// closeWrite sends a FIN.
func closeWrite(conn net.Conn) error {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

// clientLeft is called when the client or we have closed the client's connection. It counts the connection as closed, once.
func (c *Conn) clientLeft() {
	c.leaving.Do(func() { c.proxy.count(func(s *Stats) { s.Open-- }) })
}

// run connects the client to the server, unless the greeting says otherwise, and passes messages until the connection has
// ended.
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
	// All goroutines end with Close, which ends life and closes both sockets. It is called when either side ends.
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

// ignore reads what the client sends, and does nothing with it, until the connection is closed.
func (c *Conn) ignore() {
	buffer := make([]byte, 1024)
	for {
		if _, err := c.client.Read(buffer); err != nil {
			return
		}
	}
}

// connect dials the server. It reports false if it can't, or if the connection has ended in the meantime.
func (c *Conn) connect() bool {
	server, err := new(net.Dialer).DialContext(c.life, c.proxy.network, c.proxy.target)
	if err != nil {
		return false
	}
	c.mu.Lock()
	c.server = server
	c.mu.Unlock()
	if c.life.Err() != nil { // Close may have been called before c.server was set, and not have closed it
		_ = server.Close()
		return false
	}
	return true
}

// sleep waits for d, and reports whether it could: not if the connection has ended in the meantime.
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

// send puts a packet into the queue of a direction, unless the connection has ended.
func (c *Conn) send(d Direction, p packet) {
	p.sent = time.Now()
	select {
	case c.queues[d] <- p:
	case <-c.life.Done():
	}
}

// deliver writes the packets in the queue of a direction to their receiver, each after the latency. Once a packet was
// swallowed, only the end of the connection is passed on, since a TCP stream can't have a gap.
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
		switch {
		case p.sever:
			c.sever(p.how)
		case p.end && d == ToServer && c.isCut():
			_ = closeWrite(c.server)
		case p.end:
			torn = torn || p.how == Hold // with Hold the connection goes on without further packets
			c.Close(p.how)
		case p.aside:
			_, _ = receiver.Write(p.data) // if the receiver has left, whoever reads from it notices
		case !torn:
			torn = c.write(d, p, receiver)
		}
	}
}

// write passes a message on, and reports whether the rest of the stream is lost, by a Cut.
func (c *Conn) write(d Direction, p packet, receiver net.Conn) (torn bool) {
	n, cut := c.proxy.pass(c, d, p)
	_, err := receiver.Write(p.data[:n])
	switch {
	case cut != nil:
		c.happen(cut)
	case err != nil:
		c.receiverLeft(d, err)
	}
	return cut != nil
}

// receiverLeft is called when a packet couldn't be written, since the receiver in direction d has closed its connection. It
// ends the connection, unless a black hole in the other direction hides that.
func (c *Conn) receiverLeft(d Direction, err error) {
	if _, hidden := c.fault(1 - d); !hidden {
		c.Close(endOf(err))
	}
}

// endOf returns how the connection ends for the other side, if this side ended with err.
func endOf(err error) End {
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return RST
	}
	return FIN
}

// readClient queues the client's messages for the server: first the startup messages, then those with a type.
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
	close(c.clientGone)
	c.send(ToServer, packet{end: true, how: endOf(err)})
}

// readStartups handles the messages at the beginning, which have no type: requests for encryption, which it refuses, and
// then a startup message or a cancel request, after which it returns.
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
		c.send(ToServer, packet{data: raw, aside: code == cancelRequest})
		return nil
	}
}

// request queues one message of the client for the server, unless a rule keeps it from the server.
func (c *Conn) request(m message) {
	rule := c.session.request(c.proxy, m)
	if rule != nil && rule.Unsynced && m.kind == 'S' {
		c.send(ToServer, packet{end: true, how: rule.End}) // behind what came before, which the server is to get
		return
	}
	if rule == nil || !rule.Unsent {
		c.send(ToServer, packet{data: m.raw, kind: m.kind})
		return
	}
	// Not before the last message of the round trip: if something is unread when a socket is closed, an RST is sent and no
	// FIN.
	if m.kind == 'Q' || m.kind == 'S' {
		c.Close(rule.End)
	}
}

// readServer queues the server's messages for the client, unless a rule or a Cut keeps them from the client.
func (c *Conn) readServer() {
	r := bufio.NewReader(c.server)
	trip, passed := 0, 0 // the round trip, see session, and how many messages of it have come
	sinceCut := 0        // how many messages have come since a Cut
	for {
		m, err := readMessage(r)
		if err != nil {
			c.serverLeft(err, sinceCut)
			return
		}
		if a := c.cut.Load(); a != nil {
			sinceCut++
			c.answer(a, sinceCut, m)
			continue
		}
		if m.kind == 'K' {
			c.pid.Store(binary.BigEndian.Uint32(m.body()))
		}
		rule := c.session.rule(trip)
		if rule == nil || passed < rule.Pass {
			c.send(ToClient, packet{data: m.raw, kind: m.kind})
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

// serverLeft is called when the server has closed its connection, and with the number of messages that it had sent since a
// Cut. That is the end of the connection; if it was cut, only when the client has noticed it, too.
func (c *Conn) serverLeft(err error, sinceCut int) {
	close(c.serverGone)
	a := c.cut.Load()
	if a != nil && sinceCut < a.cut.Answers {
		c.lastWord(a)
	}
	if !c.isCut() {
		c.send(ToClient, packet{end: true, how: endOf(err)})
		return
	}
	select {
	case <-c.clientGone:
		c.Close(FIN)
	case <-c.life.Done():
	}
}
