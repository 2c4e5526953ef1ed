package integration

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/cockroachdb/cockroach-go/v2/crdb"
	crdbpgx "github.com/cockroachdb/cockroach-go/v2/crdb/crdbpgxv5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/lab/known"
)

// A call does one thing, under the number id, as a program does that looks at every error.
type call func(ctx context.Context, id int64) error

// An outcomeClient is a way to use a database.
type outcomeClient struct {
	name   string
	writes int // how many rows a call writes, all or none; 0: it reads
	// constraint follows the columns of the client's table.
	constraint string
	open       func(t *testing.T, dsn, table string) (c call, closePool func())
	told       func(error) known.Outcome

	// The fields below are about what pgprod promises.
	pgprod  bool
	certain bool // there are no errors, whatever the fault
}

// table is the name of the client's table, as SQL has it.
func (c outcomeClient) table() string { return pgx.Identifier{c.name}.Sanitize() }

var outcomeClients = []outcomeClient{
	{name: "pgx: insert", writes: 1, told: known.ByPgx, open: pgxClient(insertOne)},
	{name: "pgx: transaction", writes: 2, told: toldByTx, open: pgxClient(insertTwo)},
	{name: "pgx: read", told: toldOfARead, open: pgxClient(readOne)},
	{name: "pgxpool: insert", writes: 1, told: known.ByPgx, open: poolClient(poolInsertOne)},
	{name: "pgxpool: transaction", writes: 2, told: toldByTx, open: poolClient(poolInsertTwo)},
	{name: "pgxpool: read", told: toldOfARead, open: poolClient(poolReadOne)},
	{name: "cockroach-go: ExecuteTx", writes: 2, told: toldByCockroach, open: poolClient(cockroachInsertTwo)},
	{name: "pgprod: insert", writes: 1, pgprod: true, told: known.ByPgprod, open: pgprodClient(insertOne)},
	{name: "pgprod: InTx", writes: 2, pgprod: true, told: known.ByPgprod, open: pgprodClient(inTxInsertTwo)},
	{name: "pgprod: InTx, TxOnce", writes: 2, pgprod: true, certain: true, told: known.ByPgprod,
		open: pgprodClient(onceInsertTwo)},
	{name: "pgprod: repeatable upsert, read", writes: 1, pgprod: true, certain: true, told: known.ByPgprod,
		constraint: ", primary key (id)", open: pgprodClient(upsertAndRead)},
}

// pgxClient is a client by pgx's driver for database/sql, with limits as they are usually set by hand.
func pgxClient(with func(db *sql.DB, table string) call) func(*testing.T, string, string) (call, func()) {
	return func(t *testing.T, dsn, table string) (call, func()) {
		db, err := sql.Open("pgx", dsn)
		require.NoError(t, err)
		db.SetMaxOpenConns(30)
		db.SetMaxIdleConns(20)
		db.SetConnMaxLifetime(30 * time.Minute)
		db.SetConnMaxIdleTime(10 * time.Minute)
		return with(db, table), func() { assert.NoError(t, db.Close()) }
	}
}

// pgprodClient is a client by pgprod with its defaults. pool_timeout is longer, for a busy machine on which an outage takes
// longer than anybody has planned.
func pgprodClient(with func(db *sql.DB, table string) call) func(*testing.T, string, string) (call, func()) {
	return func(t *testing.T, dsn, table string) (call, func()) {
		quiet := pgprod.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))
		db, err := pgprod.Open(dsn, quiet, pgprod.WithPreflight(false), pgprod.WithPoolTimeout(outcomePatience))
		require.NoError(t, err)
		return with(db, table), func() {
			status, err := pgprod.Status(db)
			assert.NoError(t, err)
			assert.Positive(t, status.Closed["invalid"], "connections of %s that the fault has cost", table)
			assert.NoError(t, db.Close())
		}
	}
}

// poolClient is a client by pgxpool, of the same size.
func poolClient(with func(pool *pgxpool.Pool, table string) call) func(*testing.T, string, string) (call, func()) {
	return func(t *testing.T, dsn, table string) (call, func()) {
		config, err := pgxpool.ParseConfig(dsn)
		require.NoError(t, err)
		config.MaxConns = 30
		pool, err := pgxpool.NewWithConfig(t.Context(), config)
		require.NoError(t, err)
		return with(pool, table), pool.Close
	}
}

// insert is a statement that writes a part of a call: with arguments, for which it is prepared, or without, so that it goes by
// the simple protocol.
func insert(table string, id int64, part int) (text string, args []any) {
	if id%2 == int64(part)%2 {
		return "insert into " + table + " values ($1, $2)", []any{id, part}
	}
	return fmt.Sprintf("insert into %s values (%d, %d)", table, id, part), nil
}

// execer is a *sql.DB or a *sql.Tx.
type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

func insertPart(ctx context.Context, db execer, table string, id int64, part int) error {
	text, args := insert(table, id, part)
	_, err := db.ExecContext(ctx, text, args...)
	return err
}

func insertOne(db *sql.DB, table string) call {
	return func(ctx context.Context, id int64) error { return insertPart(ctx, db, table, id, 1) }
}

func insertBoth(ctx context.Context, db execer, table string, id int64) error {
	if err := insertPart(ctx, db, table, id, 1); err != nil {
		return err
	}
	return insertPart(ctx, db, table, id, 2)
}

func insertTwo(db *sql.DB, table string) call {
	return func(ctx context.Context, id int64) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if err := insertBoth(ctx, tx, table, id); err != nil {
			_ = tx.Rollback()
			return err
		}
		return ofCommit(tx.Commit())
	}
}

// answer is a read: it returns its argument.
const answer = "select count(*) from generate_series(1, $1::bigint)"

// errWrongAnswer is the error of a call whose read has read something else than what is there.
var errWrongAnswer = errors.New("the answer is wrong")

func readOne(db *sql.DB, _ string) call {
	return func(ctx context.Context, id int64) error {
		var n int64
		err := db.QueryRowContext(ctx, answer, id%100).Scan(&n)
		return checkAnswer(n, id, err)
	}
}

func checkAnswer(n, id int64, err error) error {
	if err == nil && n != id%100 {
		return errWrongAnswer
	}
	return err
}

func inTxInsertTwo(db *sql.DB, table string) call {
	return func(ctx context.Context, id int64) error {
		return pgprod.InTx(ctx, db, func(tx *sql.Tx) error { return insertBoth(ctx, tx, table, id) })
	}
}

func onceInsertTwo(db *sql.DB, table string) call {
	return func(ctx context.Context, id int64) error {
		key := pgprod.TxOnce(fmt.Sprintf("%s %d", table, id))
		return pgprod.InTx(ctx, db, func(tx *sql.Tx) error { return insertBoth(ctx, tx, table, id) }, key)
	}
}

// upsertAndRead reads what it has written.
func upsertAndRead(db *sql.DB, table string) call {
	return func(ctx context.Context, id int64) error {
		ctx = pgprod.ContextRepeatable(ctx)
		_, err := db.ExecContext(ctx, "insert into "+table+" values ($1, 1) on conflict (id) do update set part = excluded.part", id)
		if err != nil {
			return err
		}
		var n int
		err = db.QueryRowContext(ctx, "select count(*) from "+table+" where id = $1", id).Scan(&n)
		if err == nil && n != 1 {
			return errWrongAnswer
		}
		return err
	}
}

// pgxExecer is a *pgxpool.Pool or a pgx.Tx.
type pgxExecer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

func poolInsertPart(ctx context.Context, db pgxExecer, table string, id int64, part int) error {
	text, args := insert(table, id, part)
	_, err := db.Exec(ctx, text, args...)
	return err
}

func poolInsertBoth(ctx context.Context, tx pgx.Tx, table string, id int64) error {
	if err := poolInsertPart(ctx, tx, table, id, 1); err != nil {
		return err
	}
	return poolInsertPart(ctx, tx, table, id, 2)
}

func poolInsertOne(pool *pgxpool.Pool, table string) call {
	return func(ctx context.Context, id int64) error { return poolInsertPart(ctx, pool, table, id, 1) }
}

func poolInsertTwo(pool *pgxpool.Pool, table string) call {
	return func(ctx context.Context, id int64) error {
		tx, err := pool.Begin(ctx)
		if err != nil {
			return err
		}
		if err := poolInsertBoth(ctx, tx, table, id); err != nil {
			_ = tx.Rollback(ctx)
			return err
		}
		return ofCommit(tx.Commit(ctx))
	}
}

func poolReadOne(pool *pgxpool.Pool, _ string) call {
	return func(ctx context.Context, id int64) error {
		var n int64
		err := pool.QueryRow(ctx, answer, id%100).Scan(&n)
		return checkAnswer(n, id, err)
	}
}

// cockroachInsertTwo uses the helper that CockroachDB recommends to its users, on PostgreSQL. There RELEASE SAVEPOINT commits
// nothing, and the helper ignores what COMMIT answers.
func cockroachInsertTwo(pool *pgxpool.Pool, table string) call {
	return func(ctx context.Context, id int64) error {
		return crdbpgx.ExecuteTx(ctx, pool, pgx.TxOptions{}, func(tx pgx.Tx) error { return poolInsertBoth(ctx, tx, table, id) })
	}
}

// A commitError is an error of COMMIT. A caller of pgx has to know where an error has come from to know what it means.
type commitError struct{ error }

func (e commitError) Unwrap() error { return e.error }

func ofCommit(err error) error {
	if err == nil {
		return nil
	}
	return commitError{err}
}

// toldByTx is toldByPgx for a transaction: before COMMIT all errors mean that it was rolled back.
func toldByTx(err error) known.Outcome {
	if _, committing := errors.AsType[commitError](err); err != nil && !committing {
		return known.Denied
	}
	return known.ByPgx(err)
}

// toldOfARead is for a read, which leaves nothing behind that could be doubted.
func toldOfARead(err error) known.Outcome {
	if err == nil {
		return known.Acknowledged
	}
	return known.Denied
}

// toldByCockroach is what the helper's manual says: an AmbiguousCommitError is what a caller must look into.
func toldByCockroach(err error) known.Outcome {
	if err == nil {
		return known.Acknowledged
	}
	if _, ambiguous := errors.AsType[*crdb.AmbiguousCommitError](err); ambiguous {
		return known.Unknown
	}
	return known.Denied
}
