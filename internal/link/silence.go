package link

import (
	"time"

	"github.com/pgprod/pgprod/internal/wire"
)

// Awaits reports whether the server owes an answer on the connection, to a statement, a ping or anything else. While a caller
// waits for notifications it doesn't. It may be called at any time.
func (c *Conn) Awaits() bool { return c.tap.Awaits() && c.tap.Err() == nil }

// Listen begins to listen for a sign of life of the server's on the connection, and Deaf reports whether there was none since.
// Both may be called at any time.
func (c *Conn) Listen() { c.tap.Listen() }

// Deaf is described at Listen.
func (c *Conn) Deaf() bool { return c.tap.Deaf() }

// LookAside is Look, for any goroutine and at any time.
func (c *Conn) LookAside() wire.State { return wire.NewProbe(c.pg.Conn()).Peek() }

// Sever ends what is under way on the connection, and all that is begun on it from now on, with err, and without waiting for
// the server. It may be called at any time.
func (c *Conn) Sever(err error) {
	c.tap.Sever(err)
	_ = c.pg.Conn().SetDeadline(time.Unix(1, 0))
}

// Severed returns what Sever was called with; nil: it was not called. It may be called at any time.
func (c *Conn) Severed() error { return c.tap.Severed() }

// Path returns what the system knows of the connection's path; ok is false if it knows nothing. It may be called at any time.
func (c *Conn) Path() (p wire.Path, ok bool) { return wire.PathOf(c.pg.Conn()) }
