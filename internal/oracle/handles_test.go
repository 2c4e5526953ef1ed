package oracle

import (
	"context"
	"database/sql"
	"errors"
	"sync"

	"github.com/jackc/pgx/v5"
)

func (s cancel) do(w *world, o *observation) {
	switch s.place.kind {
	case "rows":
		h := w.rows[s.place.n]
		if h == nil || h.ended {
			o.skip("there are no %v open", s.place)
			return
		}
		if !h.cancellable {
			o.skip("%v have no context of their own", s.place)
			return
		}
		h.cancel()
		await("rows are open whose context has ended", func() bool { _, err := h.rows.Columns(); return err != nil })
		o.note("next", "%v", h.rows.Next())
		o.fault("end", h.rows.Err())
		w.retire(h.lease) // which pgx may have lost or not, by how much of the rows had come
	case "tx":
		w.cancelTx(o, s.place.n)
	}
}

// cancelTx ends a transaction's context, and waits until database/sql has rolled it back.
func (w *world) cancelTx(o *observation, n int) {
	h := w.tx[n]
	if h == nil || h.done || !h.cancellable {
		o.skip("there is no tx%d open with a context of its own", n)
		return
	}
	if h.ofConn {
		h.cancel()
		w.retire(h.lease) // the only way to see when it has been rolled back
		return
	}
	inUse := w.db.Stats().InUse
	h.cancel()
	await("a transaction is open whose context has ended", func() bool { return w.db.Stats().InUse < inUse })
	o.fault("commit", h.tx.Commit())
	o.fault("rollback", h.tx.Rollback())
	h.done = true
	w.dropUnprepared(h.lease)
	w.side.settle()
}

func (s begin) do(w *world, o *observation) {
	var beginner interface {
		BeginTx(context.Context, *sql.TxOptions) (*sql.Tx, error)
	} = w.db
	q, l, err := w.at(s.place)
	if err != nil {
		o.skip("%v", err)
		return
	}
	if s.place.kind == "conn" {
		beginner = q.(*sql.Conn)
	}
	ctx, cancel := s.ends.context()
	if w.sets {
		ctx = withSettings(ctx, s.tx)
	}
	tx, err := beginner.BeginTx(ctx, &sql.TxOptions{Isolation: sql.IsolationLevel(s.isolation), ReadOnly: s.readOnly})
	o.fault("error", err)
	if err != nil {
		cancel()
		if l != nil && (isEnd(err) || sqlState(err) != "") { // pgx gives up a connection on which BEGIN fails
			w.afterEnd(o, q, l)
		}
		return
	}
	h := &txHandle{tx: tx, lease: l, ofConn: l != nil, cancel: cancel, cancellable: s.ends == byRequest}
	if l == nil {
		h.lease = new(lease)
	}
	w.tx[s.tx] = h
}

func (s end) do(w *world, o *observation) {
	h := w.tx[s.tx]
	if h == nil {
		o.skip("there is no tx%d", s.tx)
		return
	}
	if s.commit {
		o.fault("commit", h.tx.Commit())
	} else {
		o.fault("rollback", h.tx.Rollback())
	}
	h.done = true
	h.cancel()
	w.dropUnprepared(h.lease)
}

// dropUnprepared takes statements away that are only texts, which don't hear of the end of their transaction.
func (w *world) dropUnprepared(l *lease) {
	for i, st := range w.stmt {
		if st != nil && st.lease == l && w.mode != "cache_statement" {
			w.stmt[i] = nil
		}
	}
}

func (s openConn) do(w *world, o *observation) {
	if w.full() {
		o.skip("all connections are held")
		return
	}
	conn, err := w.db.Conn(context.Background())
	o.fault("error", err)
	if err == nil {
		w.conn[s.conn] = &connHandle{conn, new(lease)}
	}
}

// do closes what is open on the *sql.Conn first: its Close would wait for that.
func (s closeConn) do(w *world, o *observation) {
	h := w.conn[s.conn]
	if h == nil {
		o.skip("there is no conn%d", s.conn)
		return
	}
	w.conn[s.conn] = nil
	w.retire(h.lease)
	o.fault("close", h.conn.Close())
	o.fault("again", h.conn.Close())
	_, err := h.conn.ExecContext(context.Background(), "select 1")
	o.fault("exec", err)
}

func (s ping) do(w *world, o *observation) {
	q, _, err := w.at(s.place)
	if err != nil {
		o.skip("%v", err)
		return
	}
	ctx, cancel := s.ends.context()
	defer cancel()
	o.fault("error", q.(interface{ PingContext(context.Context) error }).PingContext(ctx))
}

// do has goroutines insert by one handle. Each does so once: the sum is known, the order is not. Afterwards database/sql may
// still be dialling a connection that nobody waits for any more, which counts as one in use.
func (s share) do(w *world, o *observation) {
	q, _, err := w.at(s.place)
	if err != nil {
		o.skip("%v", err)
		return
	}
	inUse := w.db.Stats().InUse
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex // guards counts
		counts = map[string]int{}
	)
	for i := range s.n {
		wg.Go(func() {
			_, err := q.ExecContext(context.Background(), "insert into shared values ($1)", i)
			mu.Lock()
			defer mu.Unlock()
			counts[describe(err)]++
		})
	}
	wg.Wait()
	o.note("errors", "%v", counts)
	count := 0
	o.fault("count", q.QueryRowContext(context.Background(), "select count(*) from shared").Scan(&count))
	o.note("count", "%d", count)
	await("more connections are in use than before", func() bool { return w.closed || w.db.Stats().InUse <= inUse })
}

// errNone is for a *sql.Conn that has no connection below, and can't get any.
var errNone = errors.New("no *pgx.Conn is below")

const unread = "Query, not read"

// raws are what is done with the *pgx.Conn of a *sql.Conn.
var raws = []string{"Exec", unread, "SendBatch", "a batch that fails", "CopyFrom", "CopyFrom that fails", "Prepare", "Begin, left open", "an error", "SET"}

func (s raw) do(w *world, o *observation) {
	h := w.conn[s.conn]
	if h == nil {
		o.skip("there is no conn%d", s.conn)
		return
	}
	w.left = true
	o.fault("error", h.conn.Raw(func(dc any) error {
		conn := dc.(interface{ Conn() *pgx.Conn }).Conn()
		if conn == nil {
			return errNone
		}
		return inRaw(o, conn, s.what)
	}))
	if s.what == unread {
		w.retire(h.lease) // nothing can be done with it any more, and pgx would hang
	}
}

func inRaw(o *observation, conn *pgx.Conn, what string) error {
	ctx := context.Background()
	switch what {
	case "Exec":
		tag, err := conn.Exec(ctx, "update item set n = 3 where id = $1", 3)
		o.note("tag", "%v", tag)
		return err
	case unread:
		rows, err := conn.Query(ctx, "select id from item order by id")
		if err == nil {
			o.note("next", "%v", rows.Next())
		}
		return err
	case "SendBatch", "a batch that fails":
		b := &pgx.Batch{}
		b.Queue("insert into item (id, n) values ($1, 1)", 70)
		b.Queue("select count(*) from item")
		if what != "SendBatch" {
			b.Queue("select 1 / 0")
		}
		return conn.SendBatch(ctx, b).Close()
	case "CopyFrom", "CopyFrom that fails":
		rows := [][]any{{80, 1}, {81, 2}}
		if what != "CopyFrom" {
			rows = append(rows, []any{80, 1})
		}
		n, err := conn.CopyFrom(ctx, pgx.Identifier{"item"}, []string{"id", "n"}, pgx.CopyFromRows(rows))
		o.note("copied", "%d", n)
		return err
	case "Prepare":
		sd, err := conn.Prepare(ctx, "mine", "select $1::int, t from item")
		if err == nil {
			o.note("prepared", "%v %d", sd.ParamOIDs, len(sd.Fields))
		}
		return err
	case "Begin, left open":
		_, err := conn.Exec(ctx, "begin")
		return err
	case "SET":
		_, err := conn.Exec(ctx, "set app.tenant to 'raw'")
		return err
	}
	return errNothing
}
