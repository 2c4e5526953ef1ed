package oracle

import (
	"context"
	"database/sql"
	"log/slog"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx, which is the oracle
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// A world is a program's handles on one driver, and the database below.
type world struct {
	side  *side
	db    *sql.DB
	mode  string // default_query_exec_mode
	conns int    // the most connections
	eager bool   // pgprod sends BEGIN by itself
	sets  bool   // contexts bring settings, which only pgprod knows of

	conn [maxConns]*connHandle
	tx   [maxTxs]*txHandle
	stmt [maxStmts]*stmtHandle
	rows [maxRows]*rowsHandle
	row  [maxRow]*rowHandle

	left    bool // something may have been left in a session
	changed bool // the schema may have been
	closed  bool // the *sql.DB is
}

// A lease is the use of one connection. What is begun on a *sql.Conn or in a transaction shares its lease.
type lease struct{ _ byte } // not empty, so that no two are the same

type (
	connHandle struct {
		conn  *sql.Conn
		lease *lease
	}
	txHandle struct {
		tx          *sql.Tx
		lease       *lease
		ofConn      bool
		cancel      context.CancelFunc
		cancellable bool // by a step
		done        bool
		sent        bool // the server has certainly heard of it
		prepares    bool // a statement was prepared in it, by which pgx may have taken locks, and pgprod none
	}
	stmtHandle struct {
		stmt  statementHandle
		lease *lease      // nil: of the *sql.DB
		conn  *connHandle // that prepared it
		ofTx  bool        // made by the Stmt of a transaction
		text  statement
	}
	rowsHandle struct {
		rows        *sql.Rows
		lease       *lease
		cancel      context.CancelFunc
		cancellable bool // by a step
		ended       bool
	}
	rowHandle struct {
		row     *sql.Row
		lease   *lease
		cancel  context.CancelFunc
		scanned bool
	}
)

// A side is one of the two drivers, and a database for it.
type side struct {
	name  string
	dsn   string
	admin *pgx.Conn // to the same database, past the drivers
	pools map[string]*sql.DB
	known map[text]bool
	open  func(dsn string, p program) (*sql.DB, error)
	count func(*sql.DB) (open, idle int) // how many connections it has
	sweep func(db *sql.DB, conns int)    // closes the idle ones
	fresh bool                           // the database has what every program begins with
}

// A text is one that has been prepared on a pool.
type text struct {
	db  *sql.DB
	sql string
}

func (s *side) know(db *sql.DB, sql string)       { s.known[text{db, sql}] = true }
func (s *side) knows(db *sql.DB, sql string) bool { return s.known[text{db, sql}] }

func openPgx(dsn string, p program) (*sql.DB, error) {
	db, err := sql.Open("pgx", pgtest.With(dsn, "default_query_exec_mode", p.mode, "application_name", applicationName))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(p.conns)
	db.SetMaxIdleConns(p.conns)
	return db, nil
}

func countPgx(db *sql.DB) (open, idle int) {
	s := db.Stats()
	return s.OpenConnections, s.Idle
}

func sweepPgx(db *sql.DB, conns int) {
	db.SetMaxIdleConns(-1)
	db.SetMaxIdleConns(conns)
}

func openPgprod(dsn string, p program) (*sql.DB, error) {
	return pgprod.Open(pgprodDSN(dsn, p), pgprodOptions...)
}

func pgprodDSN(dsn string, p program) string {
	return pgtest.With(dsn, "default_query_exec_mode", p.mode, "pool_size", strconv.Itoa(p.conns), "max_overflow", "0",
		"application_name", applicationName, "begin", p.riders.begin, "pool_reset", p.riders.reset, "trace_context", p.riders.trace)
}

// applicationName is what a session is called, unless a statement's trace context or the program says otherwise.
const applicationName = "oracle"

// pgprodOptions are those of all pools. The provider samples each statement and tells nobody.
var pgprodOptions = []pgprod.Option{
	pgprod.WithPreflight(false), pgprod.WithLogger(slog.New(slog.DiscardHandler)),
	pgprod.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.AlwaysSample()))),
}

func countPgprod(db *sql.DB) (open, idle int) {
	s, err := pgprod.Status(db)
	if err != nil {
		return 0, 0
	}
	return s.CheckedIn + s.CheckedOut, s.CheckedIn
}

// newSide makes a driver's database. Whoever waits for a lock there waits in vain: what holds it is another handle of the
// same program, which does one thing after the other.
func newSide(t testing.TB, s side) *side {
	t.Helper()
	ctx := context.Background()
	s.dsn = pgtest.NewDatabase(t)
	s.pools, s.known = map[string]*sql.DB{}, map[text]bool{}
	var err error
	s.admin, err = pgx.Connect(ctx, s.dsn)
	require.NoError(t, err)
	t.Cleanup(func() {
		s.drain(nil)
		_ = s.admin.Close(ctx)
	})
	_, err = s.admin.Exec(ctx, "alter database "+pgtest.DatabaseName(s.dsn)+" set lock_timeout = '10ms'")
	require.NoError(t, err)
	return &s
}

// drain closes all pools, but for one.
func (s *side) drain(but *sql.DB) {
	for key, db := range s.pools {
		if db != but {
			_ = db.Close()
			delete(s.pools, key)
		}
	}
}

// maxPools is how many pools a side keeps for later programs: the server doesn't have room for one of each kind.
const maxPools = 10

// enter gives a program its handles: the database with what each begins with, and a pool, that of an earlier program if
// that left it as it was.
func (s *side) enter(p program) *world {
	text := refill
	if !s.fresh {
		s.drain(nil) // what they have prepared is for another schema
		s.settle()
		text = contents
	}
	_, err := s.admin.Exec(context.Background(), text)
	must(err)
	s.fresh = true
	key := p.setup()
	db := s.pools[key]
	if db == nil {
		if len(s.pools) == maxPools {
			s.drain(nil)
		}
		db, err = s.open(s.dsn, p)
		must(err)
		s.pools[key] = db
	}
	return &world{
		side: s, db: db, mode: p.mode, conns: p.conns,
		eager: p.riders.begin == pgprod.BeginEager, sets: p.riders.set && s.name == "pgprod",
	}
}

// leave ends a program: whatever it left open is closed.
func (w *world) leave() {
	for _, l := range w.leases() {
		w.retire(l)
	}
	for _, st := range w.stmt {
		if st != nil {
			_ = st.stmt.Close()
		}
	}
	await("the program has left something open", func() bool { return w.db.Stats().InUse == 0 })
	if w.changed || w.closed {
		w.side.fresh = false
	}
}

// forget has the next program find nothing of this one.
func (w *world) forget() { w.side.fresh = false }

// leases are those that are in use, those of *sql.Conn and transactions first.
func (w *world) leases() (all []*lease) {
	for _, c := range w.conn {
		if c != nil {
			all = append(all, c.lease)
		}
	}
	for _, x := range w.tx {
		if x != nil {
			all = append(all, x.lease)
		}
	}
	for _, r := range w.rows {
		if r != nil {
			all = append(all, r.lease)
		}
	}
	for _, r := range w.row {
		if r != nil {
			all = append(all, r.lease)
		}
	}
	return all
}

// inUse reports whether a transaction or rows are open on a lease.
func (w *world) inUse(l *lease) bool {
	return w.reading(l) || slices.ContainsFunc(w.tx[:], func(x *txHandle) bool { return x != nil && x.lease == l && !x.done })
}

// reading reports whether rows are open on a lease.
func (w *world) reading(l *lease) bool {
	return slices.ContainsFunc(w.rows[:], func(r *rowsHandle) bool { return r != nil && r.lease == l && !r.ended }) ||
		slices.ContainsFunc(w.row[:], func(r *rowHandle) bool { return r != nil && r.lease == l && !r.scanned })
}

// busy reports whether rows are being sent. (Those of a result without rows are over before anybody reads them.)
func (h *connHandle) busy() (busy bool) {
	_ = h.conn.Raw(func(dc any) error {
		conn := dc.(interface{ Conn() *pgx.Conn }).Conn()
		busy = conn != nil && conn.PgConn().IsBusy() // nil: there is none, and none to be had
		return nil
	})
	return busy
}

// retire closes all that shares a connection, and takes it away from the program.
func (w *world) retire(l *lease) {
	if l == nil {
		return
	}
	for i, r := range w.rows {
		if r != nil && r.lease == l {
			r.close()
			w.rows[i] = nil
		}
	}
	for i, r := range w.row {
		if r != nil && r.lease == l {
			r.close()
			w.row[i] = nil
		}
	}
	for i, st := range w.stmt {
		if st != nil && st.lease == l {
			_ = st.stmt.Close()
			w.stmt[i] = nil
		}
	}
	for i, x := range w.tx {
		if x != nil && x.lease == l {
			_ = x.tx.Rollback()
			x.cancel()
			w.tx[i] = nil
		}
	}
	for i, c := range w.conn {
		if c != nil && c.lease == l {
			_ = c.conn.Close()
			w.conn[i] = nil
		}
	}
	w.side.settle()
}

func (r *rowsHandle) close() {
	_ = r.rows.Close()
	r.cancel()
	r.ended = true
}

// close closes a row. To pgx, which mixes the rows that are open up with a statement that it refuses meanwhile, it may have
// another number of columns than it had, and then its Next panics.
func (r *rowHandle) close() {
	defer func() { _ = recover() }()
	defer r.cancel()
	if !r.scanned {
		r.scanned = true
		_ = r.row.Scan()
	}
}

// sweep closes pgx's idle connections, with what was left in them.
func (w *world) sweep() {
	if w.side.sweep != nil && !w.closed {
		w.side.sweep(w.db, w.conns)
		w.side.settle()
	}
}

// settle waits until the server has noticed which connections are gone: they may hold locks until then.
func (s *side) settle() {
	await("more connections are open on the server than in the pools of "+s.name, func() bool {
		open := 0
		for _, db := range s.pools {
			n, _ := s.count(db)
			open += n
		}
		return s.backends() <= open
	})
}

// backends is how many connections there are on the server.
func (s *side) backends() (n int) {
	must(s.admin.QueryRow(context.Background(), "select count(*) from pg_stat_activity where "+ofTheProgram).Scan(&n))
	return n
}

const ofTheProgram = "datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'"

// full reports whether the next who wants a connection would have to wait for the program itself.
func (w *world) full() bool { return !w.closed && w.db.Stats().InUse >= w.conns }

// await waits for what must happen soon.
func await(what string, done func() bool) {
	const patience = time.Minute
	for began := time.Now(); !done(); {
		if time.Since(began) > patience {
			panic("after " + patience.String() + ": " + what)
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// must is for what can't fail unless the test itself is wrong.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// finalState is what is committed: all rows, and what there is of a schema.
func (s *side) finalState() (lines []string) {
	rows, err := s.admin.Query(context.Background(), `
		select format('%s.%s: %s', n.nspname, c.relname, query_to_xml(format('select * from %I.%I x order by x::text', n.nspname, c.relname), true, true, ''))
		from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname in ('public', 'other') and c.relkind = 'r'
		union all
		select format('%s.%s.%s %s', table_schema, table_name, column_name, data_type) from information_schema.columns where table_schema in ('public', 'other')
		union all
		select format('%s %s', t.typname, e.enumlabel) from pg_enum e join pg_type t on t.oid = e.enumtypid
		order by 1`, pgx.QueryExecModeSimpleProtocol)
	must(err)
	lines, err = pgx.CollectRows(rows, pgx.RowTo[string])
	must(err)
	return lines
}
