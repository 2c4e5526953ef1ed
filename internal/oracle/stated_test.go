package oracle

import (
	"database/sql"
	"errors"
)

// stated is a step of which pgx isn't asked, where states says so: it would hang for ever, since database/sql waits for
// itself, or say this or that. What pgprod makes of it is compared with the right answer, as the step states it.
type stated interface {
	step
	states(*world) bool
	answer(*world, *observation)
}

// answer is the step that has the right answer for another.
type answer struct{ to stated }

func (a answer) do(w *world, o *observation) { a.to.answer(w, o) }
func (a answer) String() string              { return a.to.String() }

// states: where database/sql hears driver.ErrBadConn of a *sql.Conn, as pgx says of a context that has ended and of a
// connection whose rows are open, it closes the *sql.Conn, and waits for the transaction or the rows that are open there.
func (c call) states(w *world) bool {
	h := w.connOf(c.place)
	return h != nil && (h.busy() || c.over() && w.inUse(h.lease))
}

// connOf is the *sql.Conn that a place is, or that its statement was prepared by.
func (w *world) connOf(p place) *connHandle {
	switch {
	case p.kind == "conn":
		return w.conn[p.n]
	case p.kind == "stmt" && w.stmt[p.n] != nil:
		return w.stmt[p.n].conn
	}
	return nil
}

// over reports whether the call's context has ended before it.
func (c call) over() bool { return c.ends == cancelled || c.ends == expired }

// errBusy stands for what is said of a connection whose rows are open.
var errBusy = errors.New("conn busy")

// states: pgx gives up a connection that doesn't answer a ping, which it doesn't either while its rows are open.
func (s ping) states(w *world) bool {
	return call{place: s.place, ends: s.ends}.states(w)
}

func (s ping) answer(w *world, o *observation) { call{place: s.place, ends: s.ends}.answer(w, o) }

// states: pgx looks at the context only if it hasn't prepared the text before, maybe for an earlier program.
func (s prepare) states(w *world) bool {
	return w.connOf(s.place) != nil && call{ends: s.ends}.over() && w.mode == "cache_statement"
}

func (s prepare) answer(w *world, o *observation) {
	w.vacate(o, s.stmt)
	call{place: s.place, ends: s.ends}.answer(w, o)
}

// states: pgx gives up a connection on which BEGIN fails.
func (s begin) states(w *world) bool {
	unsupported := s.isolation == int(sql.LevelWriteCommitted) || s.isolation == int(sql.LevelLinearizable) // which is said first
	return !unsupported && call{place: s.place, ends: s.ends}.states(w)
}

func (s begin) answer(w *world, o *observation) {
	c, h := call{place: s.place, ends: s.ends}, w.connOf(s.place)
	if !c.over() {
		c.answer(w, o)
		return
	}
	c.ended(o)
	w.afterEnd(o, h.conn, h.lease)
}

// answer is the context's error, or that rows are open. A deadline is a timeout to pgx as well.
func (c call) answer(w *world, o *observation) {
	if w.connOf(c.place).busy() {
		o.fault("error", errBusy)
		return
	}
	c.ended(o)
}

// ended notes the error of the call's context.
func (c call) ended(o *observation) {
	ctx, cancel := c.ends.context()
	defer cancel()
	o.fault("error", ctx.Err())
	if c.ends == expired {
		last := &o.facts[len(o.facts)-1]
		last.is = append(last.is, timeout)
	}
}

// A query for one row that failed has its error in its row.
func (s queryRow) answer(w *world, o *observation) {
	s.call.answer(w, o)
	if s.scan != "" {
		o.facts[0].name = "scan"
	}
}

// states: with pgx a panic in a query keeps a lock of database/sql's, and so do a transaction and a *sql.Conn.
func (s panicking) states(*world) bool { return true }

func (s panicking) answer(w *world, o *observation) {
	_, l, err := w.at(s.place)
	if err != nil || w.closed {
		o.skip("%v", err)
		return
	}
	o.note("says what the panic said", "%v", true)
	w.retire(l)
}
