package wire

import (
	"net"
	"os"
	"sync"
	"time"
)

// pumpSize is how many bytes a Pump reads ahead at most.
const pumpSize = 8 << 10

// A Pump is a connection without a socket, such as a channel of SSH, that has what a socket has: deadlines, which such
// connections often lack, and a look at what waits to be read. A goroutine of its own reads ahead, into one buffer. It ends
// when a read fails, and so when the connection is closed by either end.
//
// When the time of a write is up the connection is closed, since there is no other way to end the write. Like a net.Conn it is
// safe for concurrent use.
type Pump struct {
	inner net.Conn

	mu     sync.Mutex // guards what follows
	change *sync.Cond // tells of each change of what follows
	ahead  []byte     // what was read and not taken yet
	full   bool       // the buffer belongs to ahead, so that nothing more is read
	err    error      // why reading has ended, after what is ahead; nil: it goes on

	read, write deadline
	writing     bool // a write is under way
}

var _ net.Conn = (*Pump)(nil)

// A deadline is a time, and a timer for it. Pump.mu guards it.
type deadline struct {
	at    time.Time // zero: there is none
	timer *time.Timer
}

// passed reports whether the time is up.
func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// newPump returns a Pump for c, and starts to read.
func newPump(c net.Conn) *Pump {
	p := &Pump{inner: c}
	p.change = sync.NewCond(&p.mu)
	go p.run() // ends when a read fails
	return p
}

// run reads ahead.
func (p *Pump) run() {
	buffer := make([]byte, pumpSize)
	for p.await() {
		n, err := p.inner.Read(buffer)
		p.mu.Lock()
		p.ahead, p.full = buffer[:n], n > 0
		if err != nil && p.err == nil {
			p.err = err
		}
		ended := p.err != nil
		p.mu.Unlock()
		p.change.Broadcast()
		if ended {
			return
		}
	}
}

// await waits until the buffer is free. It reports false if the connection was closed here.
func (p *Pump) await() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.full && p.err == nil {
		p.change.Wait()
	}
	return p.err == nil
}

// Read implements net.Conn.
func (p *Pump) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.read.passed():
			return 0, os.ErrDeadlineExceeded
		case len(p.ahead) > 0:
			n := copy(b, p.ahead)
			p.ahead = p.ahead[n:]
			if len(p.ahead) == 0 {
				p.full = false
				p.change.Broadcast()
			}
			return n, nil
		case p.err != nil:
			return 0, p.err
		}
		p.change.Wait()
	}
}

// Write implements net.Conn.
func (p *Pump) Write(b []byte) (int, error) {
	if !p.beginWrite() {
		return 0, os.ErrDeadlineExceeded
	}
	n, err := p.inner.Write(b)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writing = false
	if err != nil && p.write.passed() {
		err = os.ErrDeadlineExceeded
	}
	return n, err
}

// beginWrite reports whether there is time for a write.
func (p *Pump) beginWrite() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writing = !p.write.passed()
	return p.writing
}

// Close implements net.Conn.
func (p *Pump) Close() error {
	p.mu.Lock()
	if p.err == nil {
		p.err = net.ErrClosed
	}
	p.read.set(time.Time{}, nil)
	p.write.set(time.Time{}, nil)
	p.mu.Unlock()
	p.change.Broadcast()
	return p.inner.Close()
}

// LocalAddr implements net.Conn.
func (p *Pump) LocalAddr() net.Addr { return p.inner.LocalAddr() }

// RemoteAddr implements net.Conn.
func (p *Pump) RemoteAddr() net.Addr { return p.inner.RemoteAddr() }

// SetDeadline implements net.Conn.
func (p *Pump) SetDeadline(t time.Time) error {
	_ = p.SetReadDeadline(t)
	return p.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (p *Pump) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	p.read.set(t, p.wake)
	p.mu.Unlock()
	p.change.Broadcast()
	return nil
}

// wake wakes the reader, for which a deadline has passed. It takes the lock first: a reader that has looked at the time before
// is waiting by then.
func (p *Pump) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.change.Broadcast()
}

// SetWriteDeadline implements net.Conn.
func (p *Pump) SetWriteDeadline(t time.Time) error {
	p.mu.Lock()
	p.write.set(t, p.endWrite)
	late := p.writing && p.write.passed()
	p.mu.Unlock()
	if late {
		p.endWrite()
	}
	return nil
}

// endWrite closes the connection if the time of a write under way is up.
func (p *Pump) endWrite() {
	p.mu.Lock()
	late := p.writing && p.write.passed()
	p.mu.Unlock()
	if late {
		_ = p.inner.Close()
	}
}

// set sets the time, at which f is called in a goroutine of the timer's. It is called with Pump.mu held.
func (d *deadline) set(t time.Time, f func()) {
	if d.timer != nil {
		d.timer.Stop()
	}
	d.at, d.timer = t, nil
	if !t.IsZero() {
		d.timer = time.AfterFunc(time.Until(t), f)
	}
}

// state looks at what waits to be read, for Probe. secure says that pgx's TLS is above the Pump.
func (p *Pump) state(secure bool) State {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case len(p.ahead) > 0:
		return judge(p.ahead[0], secure)
	case p.err != nil:
		return Dead
	}
	return Silent
}
