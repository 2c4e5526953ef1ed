package oracle

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A program is a list of steps, and how the pools that it runs on are set up.
type program struct {
	mode   string // default_query_exec_mode
	conns  int    // the most connections
	riders riders
	steps  []step
}

// riders are the settings of pgprod that decide what travels in front of a statement. pgx has nothing of the kind, so
// whatever they are, the answers must be the same.
type riders struct {
	begin string // begin
	reset string // pool_reset
	trace string // trace_context, of which all statements are sampled
	set   bool   // contexts bring settings, where they can travel
}

func (r riders) String() string {
	return fmt.Sprintf("begin=%s pool_reset=%s trace_context=%s settings %v", r.begin, r.reset, r.trace, r.set)
}

// GoString is what rapid prints of a program that it has drawn; the transcript tells more.
func (p program) GoString() string { return p.String() }

func (p program) String() string {
	var b strings.Builder
	fmt.Fprintln(&b, p.setup())
	for i, s := range p.steps {
		fmt.Fprintf(&b, "%3d  %v\n", i+1, s)
	}
	return b.String()
}

// setup says in one line how the pools are set up.
func (p program) setup() string {
	return fmt.Sprintf("default_query_exec_mode=%s, %d connections, %v", p.mode, p.conns, p.riders)
}

// A step is one thing that a program does. Handles are named by their numbers: a step on a handle that isn't there does
// nothing, so that a program stays one when steps are taken out of it.
type step interface {
	do(*world, *observation)
	String() string
}

// The numbers of handles of each kind that a program may have at a time.
const (
	maxConns = 2
	maxTxs   = 2
	maxStmts = 2
	maxRows  = 3
	maxRow   = 2
)

// A place is what a statement is run by: the *sql.DB, or one of the handles.
type place struct {
	kind string // db, conn, tx or stmt
	n    int
}

func (p place) String() string {
	if p.kind == "db" {
		return "db"
	}
	return fmt.Sprint(p.kind, p.n)
}

// A moment is when the context of a call ends.
type moment int

const (
	never     moment = iota
	byRequest        // when a later step says so
	cancelled        // it had been cancelled before the call
	expired          // its deadline had passed before the call
)

func (m moment) String() string {
	return [...]string{"", ", a context of its own", ", a context that was cancelled", ", a context whose deadline is over"}[m]
}

// A call is a statement, its arguments, and how it is sent.
type call struct {
	place   place
	text    statement         // of a prepared statement it is its own
	variant int               // which of the statement's lists of arguments
	mode    pgx.QueryExecMode // 0: the pool's
	ends    moment
}

func (c call) String() string {
	text := fmt.Sprintf("%q%s", shorten(c.text.text), listArgs(c.text.arguments(c.variant)))
	if c.place.kind == "stmt" {
		text = fmt.Sprintf("arguments %d", c.variant)
	}
	if c.mode != 0 {
		text = fmt.Sprintf("%v, %s", c.mode, text)
	}
	return text + c.ends.String()
}

func listArgs(args []any) string {
	var b strings.Builder
	for _, a := range args {
		fmt.Fprintf(&b, ", %T(%.60q)", a, fmt.Sprint(a))
	}
	return b.String()
}

// reading is how far the rows of a query are read.
type reading int

const (
	whole     reading = -1 // and closed by that
	untouched reading = 0  // else so many rows
)

func (r reading) String() string {
	if r == whole {
		return "all rows"
	}
	return fmt.Sprintf("%d rows", int(r))
}

type (
	exec  struct{ call }
	query struct {
		call
		rows int
		read reading
	}
	queryRow struct {
		call
		row   int
		scan  string // "": later, or never; else into what
		width int    // and how many
	}
	read struct {
		rows int
		read reading
		into string
	}
	closeRows struct{ rows int }
	nextSet   struct{ rows int }
	scanRow   struct {
		row   int
		into  string
		width int
	}
	cancel struct{ place place } // rows or tx

	begin struct {
		place     place
		tx        int
		isolation int
		readOnly  bool
		ends      moment
	}
	end struct {
		tx     int
		commit bool
	}

	openConn  struct{ conn int }
	closeConn struct{ conn int }
	ping      struct {
		place place
		ends  moment
	}
	raw struct {
		conn int
		what string
	}

	prepare struct {
		place place
		stmt  int
		text  statement
		ends  moment
	}
	txStmt    struct{ tx, from, stmt int }
	closeStmt struct{ stmt int }

	share struct {
		place place
		n     int
	}
	cut struct { // a statement whose context ends while the server is at work on it
		place    place
		how      string
		deadline bool
	}
	panicking struct { // an argument panics in the midst of a statement
		place place
		how   string
	}
	terminate struct{} // all of the program's backends, between two steps
	closeDB   struct{}
)

// ways are those to send a statement.
var ways = []string{"Exec", "Query", "QueryRow"}

func (s exec) String() string { return fmt.Sprintf("%v.Exec(%v)", s.place, s.call) }
func (s query) String() string {
	return fmt.Sprintf("rows%d = %v.Query(%v), and read %v", s.rows, s.place, s.call, s.read)
}
func (s queryRow) String() string {
	if s.scan == "" {
		return fmt.Sprintf("row%d = %v.QueryRow(%v)", s.row, s.place, s.call)
	}
	return fmt.Sprintf("%v.QueryRow(%v).Scan(%d × %s)", s.place, s.call, s.width, s.scan)
}
func (s read) String() string {
	return fmt.Sprintf("read %v of rows%d into %s", s.read, s.rows, s.into)
}
func (s closeRows) String() string { return fmt.Sprintf("rows%d.Close()", s.rows) }
func (s nextSet) String() string   { return fmt.Sprintf("rows%d.NextResultSet()", s.rows) }
func (s scanRow) String() string   { return fmt.Sprintf("row%d.Scan(%d × %s)", s.row, s.width, s.into) }
func (s cancel) String() string    { return fmt.Sprintf("cancel the context of %v", s.place) }
func (s begin) String() string {
	return fmt.Sprintf("tx%d = %v.BeginTx(isolation %d, read-only %v%v)", s.tx, s.place, s.isolation, s.readOnly, s.ends)
}
func (s end) String() string {
	if s.commit {
		return fmt.Sprintf("tx%d.Commit()", s.tx)
	}
	return fmt.Sprintf("tx%d.Rollback()", s.tx)
}
func (s openConn) String() string  { return fmt.Sprintf("conn%d = db.Conn()", s.conn) }
func (s closeConn) String() string { return fmt.Sprintf("conn%d.Close()", s.conn) }
func (s ping) String() string      { return fmt.Sprintf("%v.Ping(%v)", s.place, s.ends) }
func (s raw) String() string       { return fmt.Sprintf("conn%d.Raw: %s", s.conn, s.what) }
func (s prepare) String() string {
	return fmt.Sprintf("stmt%d = %v.Prepare(%q%v)", s.stmt, s.place, s.text.text, s.ends)
}
func (s txStmt) String() string {
	return fmt.Sprintf("stmt%d = tx%d.Stmt(stmt%d)", s.stmt, s.tx, s.from)
}
func (s closeStmt) String() string { return fmt.Sprintf("stmt%d.Close()", s.stmt) }
func (s share) String() string     { return fmt.Sprintf("%d goroutines insert by %v", s.n, s.place) }
func (s cut) String() string {
	return fmt.Sprintf("%v.%s(%q), whose context ends meanwhile, by a deadline: %v", s.place, s.how, sleep, s.deadline)
}
func (s panicking) String() string {
	return fmt.Sprintf("%v.%s with an argument that panics", s.place, s.how)
}
func (terminate) String() string { return "the server terminates all backends" }
func (closeDB) String() string   { return "db.Close()" }
