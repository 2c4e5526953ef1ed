package oracle

import (
	"errors"
	"fmt"
)

// taken reports whether a step opens a handle whose number another has that is still open, or is of no use now.
func taken(s step, w *world) bool {
	switch s := s.(type) {
	case openConn:
		return w.conn[s.conn] != nil
	case begin:
		return w.tx[s.tx] != nil && !w.tx[s.tx].done
	case query:
		return w.rows[s.rows] != nil && !w.rows[s.rows].ended
	case txStmt: // what stands for a *sql.Stmt would not hear of it
		return w.mode != "cache_statement" && w.tx[s.tx] != nil && w.tx[s.tx].done
	case prepare: // which of the two is said first says nothing
		return (s.ends == cancelled || s.ends == expired) && w.connOf(s.place) != nil && w.connOf(s.place).busy()
	case share: // which would only hear that it is busy, or hang with pgx
		_, l, _ := w.at(s.place)
		return w.reading(l)
	case queryRow:
		return s.scan == "" && w.row[s.row] != nil && !w.row[s.row].scanned
	}
	return false
}

// placed is a step that has a place.
type placed interface{ where() place }

func (c call) where() place      { return c.place }
func (s begin) where() place     { return s.place }
func (s prepare) where() place   { return s.place }
func (s ping) where() place      { return s.place }
func (s share) where() place     { return s.place }
func (s end) where() place       { return place{"tx", s.tx} }
func (s raw) where() place       { return place{"conn", s.conn} }
func (s closeConn) where() place { return place{"conn", s.conn} }
func (s cancel) where() place    { return s.place }
func (s read) where() place      { return place{"rows", s.rows} }
func (s cut) where() place       { return s.place }
func (s panicking) where() place { return s.place }
func (s closeRows) where() place { return place{"rows", s.rows} }
func (s nextSet) where() place   { return place{"rows", s.rows} }
func (s scanRow) where() place   { return place{"row", s.row} }

// leaseOf is the lease of what a step is done on, nil if it has none yet.
func (w *world) leaseOf(s step) *lease {
	at, ok := s.(placed)
	if !ok {
		return nil
	}
	p := at.where()
	switch {
	case p.kind == "rows" && w.rows[p.n] != nil:
		return w.rows[p.n].lease
	case p.kind == "row" && w.row[p.n] != nil:
		return w.row[p.n].lease
	case p.kind == "rows", p.kind == "row":
		return nil
	}
	_, l, _ := w.at(p)
	return l
}

var errNothing = errors.New("there is nothing")

// at is the handle of a place and its lease, nil where each call has one of its own. The error says why there is none
// that may be used.
func (w *world) at(p place) (querier, *lease, error) {
	switch {
	case p.kind == "conn" && w.conn[p.n] != nil:
		return w.conn[p.n].conn, w.conn[p.n].lease, nil
	case p.kind == "tx" && w.tx[p.n] != nil:
		return w.tx[p.n].tx, w.tx[p.n].lease, nil
	case p.kind == "stmt" && w.stmt[p.n] != nil:
		if st := w.stmt[p.n]; st.lease != nil || !w.full() {
			return prepared{st.stmt}, st.lease, nil
		}
		return nil, nil, errors.New("all connections are held")
	case p.kind == "db" && w.full():
		return nil, nil, errors.New("all connections are held")
	case p.kind == "db":
		return w.db, nil, nil
	}
	return nil, nil, fmt.Errorf("there is no %v", p)
}
