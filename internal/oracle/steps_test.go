package oracle

import (
	"context"
	"database/sql"
	"fmt"
	"hash/fnv"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pgprod/pgprod"
)

// querier is a *sql.DB, *sql.Conn or *sql.Tx.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// context makes the context of a call.
func (m moment) context() (context.Context, context.CancelFunc) {
	switch m {
	case byRequest:
		return context.WithCancel(context.Background())
	case cancelled:
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return ctx, cancel
	case expired:
		return context.WithDeadline(context.Background(), time.Unix(0, 0))
	}
	return context.Background(), func() {}
}

// context makes the context of a call. It may bring settings, of which no statement takes notice.
func (c call) context(w *world) (context.Context, context.CancelFunc) {
	ctx, cancel := c.ends.context()
	if w.sets && c.canHaveSettings(w) {
		ctx = withSettings(ctx, c.variant)
	}
	return ctx, cancel
}

func withSettings(ctx context.Context, variant int) context.Context {
	return pgprod.ContextWithSettings(ctx, map[string]string{"app.rider": strconv.Itoa(variant % 2)})
}

// canHaveSettings reports whether settings can travel with a call wherever it is made: it goes by the extended protocol, and
// doesn't refuse to run in a transaction.
func (c call) canHaveSettings(w *world) bool {
	s, mode := c.text, c.mode.String()
	if c.place.kind == "stmt" {
		s = w.stmt[c.place.n].text
	}
	if c.mode == 0 {
		mode = w.mode
	}
	if len(s.arguments(c.variant)) == 0 && (w.mode == "simple_protocol" || strings.Contains(s.text, "$")) {
		return false // Exec takes the simple protocol then, whatever the call's own mode
	}
	return !strings.HasPrefix(mode, "simple") && ordinary.MatchString(s.text) && !strings.ContainsAny(s.text, ";@\x00")
}

var ordinary = regexp.MustCompile("^(select|insert|update|delete|with|merge|values|table|alter table) ")

// prepareCall finds what a call needs, and notes what it may leave behind.
func (w *world) prepareCall(o *observation, c call) (q querier, l *lease, text string, args []any, ok bool) {
	q, l, err := w.at(c.place)
	if err != nil {
		o.skip("%v", err)
		return nil, nil, "", nil, false
	}
	s := c.text
	if c.place.kind == "stmt" {
		s = w.stmt[c.place.n].text
	}
	args = s.arguments(c.variant)
	if c.mode != 0 {
		args = append([]any{c.mode}, args...)
	}
	w.left, w.changed = w.left || s.leaves, w.changed || s.schema
	return q, l, s.text, args, true
}

func (s exec) do(w *world, o *observation) {
	q, _, text, args, ok := w.prepareCall(o, s.call)
	if !ok {
		return
	}
	ctx, cancel := s.context(w)
	defer cancel()
	res, err := q.ExecContext(ctx, text, args...)
	o.fault("error", err)
	if err == nil {
		n, err := res.RowsAffected()
		o.note("affected", "%d", n)
		o.fault("affected", err)
		_, err = res.LastInsertId()
		o.fault("last id", err)
	}
}

func (s query) do(w *world, o *observation) {
	q, l, text, args, ok := w.prepareCall(o, s.call)
	if !ok {
		return
	}
	ctx, cancel := s.context(w)
	rows, err := q.QueryContext(ctx, text, args...)
	o.fault("error", err)
	if err != nil {
		cancel()
		return
	}
	h := &rowsHandle{rows: rows, lease: l, cancel: cancel, cancellable: s.ends == byRequest}
	if l == nil {
		h.lease = new(lease)
	}
	w.rows[s.rows] = h
	o.columns(rows)
	h.read(o, s.read, "any")
}

// read reads rows and notes them; the first few as they are, all by a sum.
func (h *rowsHandle) read(o *observation, how reading, into string) {
	const few = 8
	sum, n := fnv.New64a(), 0
	for ; how == whole || n < int(how); n++ {
		if !h.rows.Next() {
			h.finish(o, n, sum.Sum64())
			return
		}
		values, err := scan(h.rows, into)
		fmt.Fprintln(sum, values)
		if n < few {
			o.note("row", "%s", values)
		}
		if err != nil {
			o.fault("scan", err)
		}
		if into == "RawBytes" && how != whole && n+1 == int(how) {
			h.close() // Scan into RawBytes keeps others from closing the rows until the next call
			o.note("closed", "behind RawBytes")
		}
	}
	if h.ended {
		return
	}
	if how == untouched {
		return
	}
	o.note("rows so far", "%d", n)
}

// finish notes how rows ended. What Err says of rows that were closed before is left out: database/sql may or may not
// have heard meanwhile that the transaction is over.
func (h *rowsHandle) finish(o *observation, n int, sum uint64) {
	o.note("rows", "%d, %x", n, sum)
	if h.ended {
		o.note("rows", "had ended before")
		return
	}
	o.fault("end", h.rows.Err())
	o.fault("close", h.rows.Close())
	h.cancel()
	h.ended = true
}

func (s read) do(w *world, o *observation) {
	if h := w.rows[s.rows]; h != nil {
		h.read(o, s.read, s.into)
		return
	}
	o.skip("there are no rows%d", s.rows)
}

func (s closeRows) do(w *world, o *observation) {
	h := w.rows[s.rows]
	if h == nil {
		o.skip("there are no rows%d", s.rows)
		return
	}
	if !h.ended {
		o.fault("close", h.rows.Close())
		o.fault("end", h.rows.Err())
	}
	h.close()
	o.note("next", "%v", h.rows.Next())
	o.note("next set", "%v", h.rows.NextResultSet())
	_, err := h.rows.Columns()
	o.fault("columns", err)
}

func (s nextSet) do(w *world, o *observation) {
	h := w.rows[s.rows]
	if h == nil {
		o.skip("there are no rows%d", s.rows)
		return
	}
	o.note("next set", "%v", h.rows.NextResultSet())
}

func (s queryRow) do(w *world, o *observation) {
	q, l, text, args, ok := w.prepareCall(o, s.call)
	if !ok {
		return
	}
	ctx, cancel := s.context(w)
	if s.scan != "" {
		defer cancel()
		scanOne(o, q.QueryRowContext(ctx, text, args...), s.scan, s.width)
		return
	}
	h := &rowHandle{row: q.QueryRowContext(ctx, text, args...), lease: l, cancel: cancel}
	o.fault("error", h.row.Err())
	if h.row.Err() != nil {
		h.close()
		return
	}
	if l == nil {
		h.lease = new(lease)
	}
	w.row[s.row] = h
}

func (s scanRow) do(w *world, o *observation) {
	h := w.row[s.row]
	if h == nil {
		o.skip("there is no row%d", s.row)
		return
	}
	if h.scanned {
		o.skip("row%d has been scanned", s.row)
		return
	}
	scanOne(o, h.row, s.into, s.width)
	h.cancel()
	h.scanned = true
}

func (closeDB) do(w *world, o *observation) {
	o.fault("close", w.db.Close())
	w.closed = true
}
