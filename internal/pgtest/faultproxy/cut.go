package faultproxy

import "slices"

// A Cut is a fault at a place of the stream, which may be within a message. (A Rule is one of a statement, wherever in the
// stream that is.)
type Cut struct {
	// Direction and Bytes are the place: behind so many bytes that the proxy passes on in this direction from now on, on all of
	// its connections together, but for those of cancel requests.
	Direction Direction
	Bytes     int
	// AtOnce says that the fault happens as soon as the last of these bytes was passed on. Default: false, when another one
	// comes.
	AtOnce bool
	// Answers is how many more messages of the server's the client gets. For these the server is sent a Flush, which lets it
	// answer what it has got; so the place must be between two messages of the client's. Default: 0, and no Flush is sent.
	Answers int
	// Stay says that the connection doesn't end, until the server or the client ends it: the server gets nothing more of what
	// the client sends, and its answers all pass. It is for places in what the client sends. Default: false.
	Stay bool
	// Word is what the client gets before the end, in the server's place. Default: nil, nothing.
	Word []byte
	// End is how the connection ends for the client. Default: FIN. For the server it ends by a FIN behind the last byte that it
	// has got; what it still answers is read and dropped.
	End End
}

// An ArmedCut is a Cut that waits for its place to be reached. It happens once. It is safe for concurrent use.
type ArmedCut struct {
	cut     Cut
	proxy   *Proxy
	reached chan struct{} // closed by the Cut's goroutine, see Reached
	conn    *Conn         // whose stream has the place; set before reached is closed

	left int // the bytes up to the place; guarded by proxy.mu
}

// Arm adds a Cut. If there are several, each begins to count its bytes when the one before it has happened.
func (p *Proxy) Arm(cut Cut) *ArmedCut {
	a := &ArmedCut{cut: cut, proxy: p, reached: make(chan struct{}), left: cut.Bytes}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = append(p.armed, a)
	return a
}

// Reached is closed when the Cut happens, with Stay when its Answers have passed.
func (a *ArmedCut) Reached() <-chan struct{} { return a.reached }

// Conn returns the connection to which the Cut has happened. Reached must be closed.
func (a *ArmedCut) Conn() *Conn { return a.conn }

// Disarm reports whether the Cut has happened; if not, it won't any more. If it has, Disarm returns when the server has
// closed its end of the connection, by which a transaction that was open on it is over.
func (a *ArmedCut) Disarm() bool {
	p := a.proxy
	p.mu.Lock()
	waits := slices.Contains(p.armed, a)
	p.armed = slices.DeleteFunc(p.armed, func(other *ArmedCut) bool { return other == a })
	p.mu.Unlock()
	if waits {
		return false
	}
	<-a.reached
	<-a.conn.serverGone
	return true
}

// A Passed is a message that the proxy has passed on.
type Passed struct {
	Direction Direction
	Kind      byte // its type; 0 at the beginning of a connection, where the client's messages have none
	Size      int  // in bytes
}

// Transcript calls do and returns the messages that the proxy passes on meanwhile.
func (p *Proxy) Transcript(do func()) []Passed {
	var passed []Passed
	p.mu.Lock()
	p.transcript = &passed
	p.mu.Unlock()
	do()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.transcript = nil
	return passed
}

// pass is called before a message is passed on. It returns how many of its bytes are to be passed on, which is all of them
// unless a Cut happens; the Cut, otherwise nil, takes its course from then on.
func (p *Proxy) pass(c *Conn, d Direction, m packet) (int, *ArmedCut) {
	n := len(m.data)
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.cut.Load() != nil { // what is under way after a Cut belongs to no further one
		return n, nil
	}
	if p.transcript != nil {
		*p.transcript = append(*p.transcript, Passed{Direction: d, Kind: m.kind, Size: n})
	}
	if len(p.armed) == 0 || p.armed[0].cut.Direction != d {
		return n, nil
	}
	a := p.armed[0]
	if n < a.left || n == a.left && !a.cut.AtOnce {
		a.left -= n
		return n, nil
	}
	p.armed = p.armed[1:]
	a.conn = c
	c.cut.Store(a) // before the server gets the last bytes, so that no answer to them slips through
	return a.left, a
}

// isCut reports whether a Cut has happened by which the connection ends.
func (c *Conn) isCut() bool {
	a := c.cut.Load()
	return a != nil && !a.cut.Stay
}

// happen goes on with a Cut when its last bytes were passed on. It is called by the goroutine that delivers in the Cut's
// direction.
func (c *Conn) happen(a *ArmedCut) {
	switch {
	case a.cut.Answers > 0:
		_, _ = c.server.Write([]byte{'H', 0, 0, 0, 4}) // a Flush; if the server has left, readServer notices
		return                                         // answer does the rest
	case a.cut.Stay:
		close(a.reached)
	case a.cut.Direction == ToServer:
		c.lastWord(a)
	default:
		close(a.reached)
		_, _ = c.client.Write(a.cut.Word) // if the client has left, it doesn't miss it
		c.sever(a.cut.End)
	}
}

// answer queues the n-th message that the server has sent since a Cut, if it passes.
func (c *Conn) answer(a *ArmedCut, n int, m message) {
	if a.cut.Stay || n <= a.cut.Answers {
		c.send(ToClient, packet{data: m.raw, kind: m.kind})
	}
	if n == a.cut.Answers {
		c.lastWord(a)
	}
}

// lastWord is called when all answers have passed that are to pass. It queues the end of the connection for the client,
// behind the Cut's Word, unless the Cut says Stay.
func (c *Conn) lastWord(a *ArmedCut) {
	close(a.reached)
	if !a.cut.Stay {
		c.send(ToClient, packet{data: a.cut.Word, aside: true})
		c.send(ToClient, packet{sever: true, how: a.cut.End})
	}
}

// sever ends the connection on both sides: for the client as how says, and then for the server by a FIN, so that who waits for
// the server's end finds the client's as well. It is over when both have closed their ends, too, see serverLeft.
func (c *Conn) sever(how End) {
	switch how {
	case FIN:
		_ = closeWrite(c.client) // and no more: the kernel would answer by an RST what the client still sends
	case RST:
		c.closeClient(RST)
	}
	_ = closeWrite(c.server)
}
