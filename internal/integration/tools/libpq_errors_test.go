package tools

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// both opens a pool of lib/pq and one of pgprod on one new database.
func both(t *testing.T) (theirs, ours *sql.DB) {
	t.Helper()
	dsn := pgtest.NewDatabase(t)
	return open(t, "postgres", dsn), open(t, "pgprod", dsn)
}

const errorTables = `create schema shop;
	create table shop.orders (id int primary key, total int constraint positive check (total > 0), note varchar(3) not null);
	create domain shop.small as int check (value < 10);
	create function shop.fail() returns void language plpgsql as $$
	begin raise exception 'no' using detail = 'because', hint = 'try again', errcode = 'P0099'; end $$;
	insert into shop.orders values (1, 1, 'a')`

func TestAnErrorHasTheSameFieldsUnderPgxsNames(t *testing.T) {
	t.Parallel()
	theirs, ours := both(t)
	mustExec(t, ours, errorTables)
	for query, code := range map[string]string{
		"insert into shop.orders values (1, 1, 'a')":    "23505",
		"insert into shop.orders values (2, -1, 'a')":   "23514",
		"insert into shop.orders values (2, 1, null)":   "23502",
		"insert into shop.orders values (2, 1, 'abcd')": "22001",
		"select 12::shop.small":                         "23514",
		"select * from nowhere":                         "42P01",
		"selct":                                         "42601",
		"select shop.fail()":                            "P0099",
		"select 1/0":                                    "22012",
	} {
		_, err := theirs.Exec(query)
		was, ok := errors.AsType[*pq.Error](err)
		require.True(t, ok, query)
		_, err = ours.Exec(query)
		is, ok := errors.AsType[*pgconn.PgError](err)
		require.True(t, ok, "%s: %v", query, err)
		assert.Equal(t, code, is.Code)
		assert.Equal(t,
			[]string{string(was.Code), was.Severity, was.Message, was.Detail, was.Hint, was.Where, was.Schema, was.Table,
				was.Column, was.DataTypeName, was.Constraint, was.InternalQuery, was.File, was.Line, was.Routine, was.Position},
			[]string{is.Code, is.Severity, is.Message, is.Detail, is.Hint, is.Where, is.SchemaName, is.TableName,
				is.ColumnName, is.DataTypeName, is.ConstraintName, is.InternalQuery, is.File, number(is.Line), is.Routine,
				number(is.Position)}, query)
		assert.Equal(t, "ERROR: "+is.Message+" (SQLSTATE "+code+")", err.Error())
	}
}

// number writes one of pgx's fields as lib/pq does.
func number(n int32) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(int(n))
}

func TestLibpqsErrorTypeIsNotFoundAnyMore(t *testing.T) {
	t.Parallel()
	_, ours := both(t)
	mustExec(t, ours, errorTables)
	_, err := ours.Exec("insert into shop.orders values (1, 1, 'a')")
	_, found := errors.AsType[*pq.Error](err)
	assert.False(t, found)
	assert.Nil(t, pq.As(err, pqerror.UniqueViolation))
	is, found := errors.AsType[*pgconn.PgError](err)
	require.True(t, found)
	assert.Equal(t, string(pqerror.UniqueViolation), is.Code, "lib/pq's constants are plain codes")
}

func TestAnEndedContextIsFoundInTheErrorAndTheServersWordAsWell(t *testing.T) {
	t.Parallel()
	theirs, ours := both(t)
	sleep := func(db *sql.DB) error {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := db.ExecContext(ctx, "select pg_sleep(10)")
		return err
	}
	require.NoError(t, theirs.Ping()) // so that a connection is there
	require.NoError(t, ours.Ping())
	was, is := sleep(theirs), sleep(ours)
	require.NotErrorIs(t, was, context.DeadlineExceeded)
	assert.Equal(t, pqerror.QueryCanceled, pq.As(was).Code)
	require.ErrorIs(t, is, context.DeadlineExceeded)
	pg, ok := errors.AsType[*pgconn.PgError](is)
	require.True(t, ok)
	assert.Equal(t, "57014", pg.Code)
	_, plain := is.(*pgconn.PgError)
	assert.False(t, plain, "errors.As is needed: the server's error is wrapped")
}

func TestAFailedStatementAbortsTheTransactionPreparedOrNot(t *testing.T) {
	t.Parallel()
	theirs, ours := both(t)
	for name, db := range map[string]*sql.DB{"lib/pq": theirs, "pgprod": ours} {
		for _, fail := range []func(tx *sql.Tx) error{
			func(tx *sql.Tx) error { _, err := tx.Prepare("selct"); return err },
			func(tx *sql.Tx) error { _, err := tx.Exec("select 1/0"); return err },
		} {
			tx, err := db.Begin()
			require.NoError(t, err)
			require.Error(t, fail(tx))
			_, err = tx.Exec("select 1")
			require.ErrorContains(t, err, "25P02", name)
			err = tx.Commit()
			require.Error(t, err)
			if name == "pgprod" {
				require.ErrorIs(t, err, pgx.ErrTxCommitRollback)
			} else {
				require.EqualError(t, err, "pq: could not complete operation in a failed transaction")
			}
		}
	}
}

func TestWhileRowsAreOpenTheTransactionRefusesAnotherStatement(t *testing.T) {
	t.Parallel()
	theirs, ours := both(t)
	for db, want := range map[*sql.DB]string{
		theirs: "pq: there is already a query being processed on this connection", ours: "pgprod: conn busy: the rows of another statement are open on this connection, close them first",
	} {
		tx, err := db.Begin()
		require.NoError(t, err)
		rows, err := tx.Query("select generate_series(1, 1000)")
		require.NoError(t, err)
		assert.True(t, rows.Next())
		_, err = tx.Exec("select 1")
		require.EqualError(t, err, want)
		require.NoError(t, rows.Close())
		require.NoError(t, tx.Commit())
	}
}
