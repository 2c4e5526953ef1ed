package faulttest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// A deed is one thing that a program asks the database for.
type deed struct {
	name  string
	kind  kind
	parts int // how many rows it leaves, all or none; 0: it reads
	do    func(ctx context.Context, db *sql.DB, w work) error
	pgx   func(ctx context.Context, db *sql.DB, w work) error // how it is done without pgprod; nil: as with it
}

// A kind says what is known of a deed whose connection is lost.
type kind int

const (
	byItself  kind = iota // a statement, which commits by itself
	inOwnTx               // a transaction of the program's own
	inInTx                // InTx
	withKey               // InTx with TxOnce
	mayRepeat             // a statement with ContextRepeatable
)

// work is what one deed is about. All of it has the same length for all deeds, so that they differ in no byte's place.
type work struct {
	number string // is in the rows that the deed leaves, and in no other deed's
	name   string // is in the texts of its statements: what has a new name is prepared anew
}

func newWork(number, name int) work {
	return work{fmt.Sprintf("%08d", number), fmt.Sprintf("t%08d", name)}
}

// judgedDatabase makes a database for deeds.
func judgedDatabase(t *testing.T) (dsn string) {
	t.Helper()
	dsn = pgtest.NewDatabase(t)
	judge, err := sql.Open("pgx", dsn)
	require.NoError(t, err)
	exec(t, judge, "create table runs (note text not null, part int not null)")
	exec(t, judge, "create table kept (note text primary key, part int not null)")
	exec(t, judge, tableOfKeys)
	require.NoError(t, judge.Close())
	return dsn
}

func (w work) insert(part int) string {
	return fmt.Sprintf("insert into runs as %s (note, part) values ($1, %d)", w.name, part)
}

func (w work) insertLiteral(part int) string {
	return fmt.Sprintf("insert into runs as %s (note, part) values ('%s', %d)", w.name, w.number, part)
}

// insertTwo inserts two rows.
func (w work) insertTwo(ctx context.Context, tx *sql.Tx) error {
	if _, err := tx.ExecContext(ctx, w.insert(1), w.number); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, w.insert(2), w.number)
	return err
}

// inTxOfOwn inserts two rows in a transaction as database/sql has it.
func (w work) inTxOfOwn(ctx context.Context, db *sql.DB) error {
	return plainTx(ctx, db, func(tx *sql.Tx) error { return w.insertTwo(ctx, tx) })
}

// errWrongRows is the error of a read that was told it has succeeded, and has not got what it has asked for.
var errWrongRows = errors.New("these are not the rows that were asked for")

// scanned returns the error of a read of one value.
func (w work) scanned(value string, err error) error {
	if err == nil && value != w.number {
		return errWrongRows
	}
	return err
}

// readRow reads one row.
func (w work) readRow(ctx context.Context, db *sql.DB) error {
	var value string
	err := db.QueryRowContext(ctx, "select $1::text as "+w.name, w.number).Scan(&value)
	return w.scanned(value, err)
}

// readRows reads some rows, of which none must be missing.
func (w work) readRows(ctx context.Context, db *sql.DB) error {
	const many = 7
	rows, err := db.QueryContext(ctx, "select i from generate_series(1, $1::int) as "+w.name+" (i)", many)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	n := 0
	for rows.Next() {
		n++
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if n != many {
		return errWrongRows
	}
	return rows.Close()
}

// inTxOfOwnToo is what is done without pgprod in place of InTx.
func inTxOfOwnToo(ctx context.Context, db *sql.DB, w work) error { return w.inTxOfOwn(ctx, db) }

// deeds are those of which is said exactly what their callers are told.
var deeds = []deed{
	{name: "Exec", kind: byItself, parts: 1, do: func(ctx context.Context, db *sql.DB, w work) error {
		_, err := db.ExecContext(ctx, w.insert(1), w.number)
		return err
	}},
	{name: "Exec without arguments", kind: byItself, parts: 1, do: func(ctx context.Context, db *sql.DB, w work) error {
		_, err := db.ExecContext(ctx, w.insertLiteral(1))
		return err
	}},
	{name: "QueryRow of an insert", kind: byItself, parts: 1, do: func(ctx context.Context, db *sql.DB, w work) error {
		var note string
		err := db.QueryRowContext(ctx, w.insert(1)+" returning note", w.number).Scan(&note)
		return w.scanned(note, err)
	}},
	{name: "Stmt", kind: byItself, parts: 1, do: func(ctx context.Context, db *sql.DB, w work) error {
		stmt, err := db.PrepareContext(ctx, w.insert(1))
		if err != nil {
			return err
		}
		_, err = stmt.ExecContext(ctx, w.number)
		return errors.Join(err, stmt.Close())
	}},
	{name: "a read", kind: byItself, do: func(ctx context.Context, db *sql.DB, w work) error { return w.readRow(ctx, db) }},
	{name: "a read of rows", kind: byItself, do: func(ctx context.Context, db *sql.DB, w work) error { return w.readRows(ctx, db) }},
	{name: "Begin", kind: inOwnTx, parts: 2, do: inTxOfOwnToo},
	{name: "InTx", kind: inInTx, parts: 2, pgx: inTxOfOwnToo, do: func(ctx context.Context, db *sql.DB, w work) error {
		return pgprod.InTx(ctx, db, func(tx *sql.Tx) error { return w.insertTwo(ctx, tx) })
	}},
	{name: "InTx with TxOnce", kind: withKey, parts: 2, pgx: inTxOfOwnToo,
		do: func(ctx context.Context, db *sql.DB, w work) error {
			return pgprod.InTx(ctx, db, func(tx *sql.Tx) error { return w.insertTwo(ctx, tx) }, pgprod.TxOnce(w.number))
		}},
	{name: "a read that is repeatable", kind: mayRepeat, do: func(ctx context.Context, db *sql.DB, w work) error {
		return w.readRow(pgprod.ContextRepeatable(ctx), db)
	}},
	{name: "an upsert that is repeatable", kind: mayRepeat, parts: 1, do: func(ctx context.Context, db *sql.DB, w work) error {
		_, err := db.ExecContext(pgprod.ContextRepeatable(ctx), "insert into kept as "+w.name+" (note, part) values ($1, 1) "+
			"on conflict (note) do update set part = excluded.part", w.number)
		return err
	}},
}

// moreDeeds are those of which is said only that what their callers are told is true.
var moreDeeds = []deed{
	{name: "a transaction by text", parts: 2, do: func(ctx context.Context, db *sql.DB, w work) error {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		return errors.Join(w.byText(ctx, conn), conn.Close())
	}},
	{name: "several statements in a text", parts: 2, do: func(ctx context.Context, db *sql.DB, w work) error {
		_, err := db.ExecContext(ctx, w.insertLiteral(1)+"; "+w.insertLiteral(2))
		return err
	}},
	{name: "Query of an insert", parts: 2, do: func(ctx context.Context, db *sql.DB, w work) error {
		return drain(db.QueryContext(ctx, "insert into runs as "+w.name+" (note, part) "+
			"select $1::text, i from generate_series(1, 2) i returning note", w.number))
	}},
	{name: "Exec after a SET", parts: 1, do: func(ctx context.Context, db *sql.DB, w work) error {
		if _, err := db.ExecContext(ctx, "set app.rest = 'x'"); err != nil {
			return err
		}
		_, err := db.ExecContext(ctx, w.insert(1), w.number) // in front of it travels what undoes the SET
		return err
	}},
	{name: "Begin with settings", parts: 2, do: func(ctx context.Context, db *sql.DB, w work) error {
		return w.inTxOfOwn(pgprod.ContextWithSettings(ctx, map[string]string{"app.tenant": w.name}), db)
	}},
	{name: "InTx with a read and a savepoint", parts: 2, pgx: inTxOfOwnToo,
		do: func(ctx context.Context, db *sql.DB, w work) error {
			return pgprod.InTx(ctx, db, func(tx *sql.Tx) error {
				if err := drain(tx.QueryContext(ctx, "select i from generate_series(1, 3) as "+w.name+" (i)")); err != nil {
					return err
				}
				if _, err := tx.ExecContext(ctx, "savepoint s"); err != nil {
					return err
				}
				return w.insertTwo(ctx, tx)
			})
		}},
	{name: "TxOnce until it is done", parts: 2, pgx: inTxOfOwnToo, do: func(ctx context.Context, db *sql.DB, w work) (err error) {
		for range 10 { // as if a queue handed out again what was not acknowledged
			err = pgprod.InTx(ctx, db, func(tx *sql.Tx) error { return w.insertTwo(ctx, tx) }, pgprod.TxOnce(w.number))
			switch {
			case err == nil, errors.Is(err, pgprod.ErrAlreadyDone):
				return nil
			case ctx.Err() != nil:
				return err
			}
		}
		return err
	}},
}

// tableOfKeys makes the table in which TxOnce keeps its keys.
const tableOfKeys = "create table pgprod_once (key text primary key, token uuid not null, done_at timestamptz not null default now())"

// byText inserts two rows in a transaction that database/sql knows nothing of.
func (w work) byText(ctx context.Context, conn *sql.Conn) error {
	for _, text := range []string{"begin", w.insert(1), w.insert(2), "commit"} {
		var args []any
		if strings.Contains(text, "$1") {
			args = append(args, w.number)
		}
		if _, err := conn.ExecContext(ctx, text, args...); err != nil {
			return err
		}
	}
	return nil
}
