package diagnose

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/pgerror"
)

// aboutTimeout is how long it may take to ask the server about slow statements, connecting included.
const aboutTimeout = 2 * time.Second

// About asks the server at a place what statements of the pool's connections to it do. It takes aboutTimeout at most, and a second more if the server doesn't react.
func (h *Prober) About(at link.Place, asked []Asked) (s *Sessions, err error) {
	ctx, cancel := context.WithTimeout(h.Life(), aboutTimeout)
	defer cancel()
	err = h.over(ctx, at, func(c *link.Conn) error {
		s, err = h.sessions(ctx, c, asked)
		return err
	})
	if pgerror.ServerIsFull(err) {
		return h.askOverIdle(ctx, at, asked)
	}
	return s, err
}

// askOverIdle asks over an idle connection of the pool's, since the server takes no more. If there is none it fails.
func (h *Prober) askOverIdle(ctx context.Context, at link.Place, asked []Asked) (s *Sessions, err error) {
	found, err := h.WithIdle(func(c *link.Conn) (err error) {
		if c.Place() != at {
			return errNoneThere
		}
		s, err = h.sessions(ctx, c, asked)
		return err
	})
	if !found {
		return nil, errNoneThere
	}
	return s, err
}

var errNoneThere = errors.New("pgprod: the server takes no more connections, and none to it is idle")

// used is the prober's connection while over uses it.
type used struct {
	conn    *link.Conn    // nil: there is none yet
	heard   *atomic.Int64 // its link.Check.Heard
	renewed int           // Prober.renewed when over began
}

// over calls ask with the connection for health checks, if that is one to this place, or with a new one, which becomes
// that connection. It does both if the former turns out to be dead. If ask returns an error its connection is closed.
func (h *Prober) over(ctx context.Context, at link.Place, ask func(*link.Conn) error) error {
	u := h.takeKept(at)
	if u.conn != nil {
		err := h.askOver(u, ask)
		if err == nil || pgerror.From(err) != nil || ctx.Err() != nil {
			return err
		} // the connection was dead
	}
	u.heard = new(atomic.Int64)
	var err error
	u.conn, err = h.Dialer().Dial(ctx, h.Observer(), &link.Check{Anywhere: true, At: at, Heard: u.heard})
	if err != nil {
		return h.Dialer().Failed(err)
	}
	return h.askOver(u, ask)
}

// askOver calls ask with a connection, and keeps it, or closes it after an error.
func (h *Prober) askOver(u used, ask func(*link.Conn) error) error {
	if err := ask(u.conn); err != nil {
		h.drop(u.conn)
		return err
	}
	h.keep(u)
	return nil
}

// takeKept takes the connection that is kept for the next question, if there is one to this place.
func (h *Prober) takeKept(at link.Place) used {
	h.mu.Lock()
	defer h.mu.Unlock()
	u := used{renewed: h.renewed}
	if h.conn != nil && h.conn.Place() == at {
		u.conn, u.heard, h.conn = h.conn, h.heard, nil
	}
	return u
}

// keep keeps a connection for the next question, for probeKept. It closes the connection if there is another one by now,
// if Renew was called meanwhile, or if the pool is closed.
func (h *Prober) keep(u used) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn != nil || h.renewed != u.renewed || h.Closed() {
		h.drop(u.conn)
		return
	}
	h.conn, h.heard = u.conn, u.heard
	h.forgetLaterLocked()
}
