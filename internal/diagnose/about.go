package diagnose

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/pgerror"
)

// aboutTimeout is how long it may take to ask the server about slow statements, connecting included.
const aboutTimeout = 2 * time.Second

// About asks the server at an address, as link.Conn.Address returned it, what statements of the pool's connections to it do. It
// asks over the connection for health checks, or over a new one, which becomes that connection. It takes aboutTimeout at most, and
// a second more if the server doesn't react.
func (h *Prober) About(address string, asked []Asked) (*Sessions, error) {
	ctx, cancel := context.WithTimeout(h.Life(), aboutTimeout)
	defer cancel()
	if c, heard := h.takeKept(address); c != nil {
		s, err := h.askOver(ctx, c, heard, asked)
		if err == nil || pgerror.From(err) != nil || ctx.Err() != nil {
			return s, err
		} // the connection was dead
	}
	check := &link.Check{Anywhere: true, Only: address, Heard: new(atomic.Int64)}
	c, err := h.Dialer().Dial(ctx, h.Observer(), check)
	if err != nil {
		return nil, h.Dialer().Failed(err)
	}
	return h.askOver(ctx, c, check.Heard, asked)
}

// askOver asks over a connection, and keeps it, or closes it after an error.
func (h *Prober) askOver(ctx context.Context, c *link.Conn, heard *atomic.Int64, asked []Asked) (*Sessions, error) {
	s, err := ask(ctx, c, asked)
	if err != nil {
		h.drop(c)
		return nil, err
	}
	s.app = h.cfg.Conn.RuntimeParams["application_name"]
	h.keep(c, heard)
	return s, nil
}

// takeKept takes the connection that is kept for the next question, if it is one to this address. It returns nil if it isn't,
// or there is none.
func (h *Prober) takeKept(address string) (c *link.Conn, heard *atomic.Int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn == nil || h.conn.Address() != address {
		return nil, nil
	}
	c, h.conn = h.conn, nil
	return c, h.heard
}

// keep keeps a connection for the next question, for probeKept. If there is another one by now, or the pool is closed, it closes
// the connection.
func (h *Prober) keep(c *link.Conn, heard *atomic.Int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn != nil || h.Closed() {
		h.drop(c)
		return
	}
	h.conn, h.heard = c, heard
	h.forgetLaterLocked()
}
