package tools

import (
	"context"
	"database/sql"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/lib/pq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

func TestSeveralStatementsInOneExecAreOneTransactionAndCountTheLast(t *testing.T) {
	t.Parallel()
	theirs, ours := both(t)
	for name, db := range map[string]*sql.DB{"theirs": theirs, "ours": ours} {
		mustExec(t, db, "create table "+name+" (id int primary key)")
		res, err := db.Exec("insert into " + name + " values (1); insert into " + name + " values (2), (3)")
		require.NoError(t, err)
		n, err := res.RowsAffected()
		require.NoError(t, err)
		assert.EqualValues(t, 2, n)
		_, err = res.LastInsertId()
		require.EqualError(t, err, "LastInsertId is not supported by this driver")
		_, err = db.Exec("insert into " + name + " values (4); insert into " + name + " values (4)")
		require.ErrorContains(t, err, "23505")
		assert.Equal(t, 3, get[int](t, db, "select count(*) from "+name))
		_, err = db.Exec("insert into "+name+" values ($1); select 1", 5)
		require.ErrorContains(t, err, "cannot insert multiple commands into a prepared statement")
	}
}

// pgx/stdlib's rows are those of one statement, so that what the others return is dropped.
func TestSeveralStatementsInOneQueryNeedTheSimpleProtocolAndOnlyTheFirstIsSeen(t *testing.T) {
	t.Parallel()
	theirs, ours := both(t)
	const query = "select 1; select 2"
	rows, err := theirs.Query(query)
	require.NoError(t, err)
	assert.Equal(t, 2, resultSets(t, rows))
	_, err = ours.Query(query)
	require.ErrorContains(t, err, "cannot insert multiple commands into a prepared statement")
	rows, err = ours.Query(query, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err, "lets them pass")
	assert.Equal(t, 1, resultSets(t, rows))
	rows, err = open(t, "pgprod", with(pgtest.NewDatabase(t), "default_query_exec_mode", "simple_protocol")).Query(query)
	require.NoError(t, err)
	assert.Equal(t, 1, resultSets(t, rows))

	mustExec(t, ours, "create table t (a int)")
	rows, err = ours.Query("select 1; insert into t values (2)", pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	assert.Equal(t, 1, resultSets(t, rows))
	assert.Equal(t, 2, get[int](t, ours, "select a from t"), "they are all run")
}

func resultSets(t *testing.T, rows *sql.Rows) (n int) {
	t.Helper()
	defer rows.Close()
	for more := true; more; more = rows.NextResultSet() {
		for rows.Next() {
			n++
		}
	}
	require.NoError(t, rows.Err())
	return n
}

// lib/pq prepares only what it is told to; pgx every statement, and fails once after a change of the table.
func TestAChangeOfTheTableCostsNeitherAnError(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	for name, db := range map[string]*sql.DB{"theirs": open(t, "postgres", dsn), "ours": open(t, "pgprod", dsn)} {
		query := func() error {
			rows, err := db.Query("select * from "+name+" where id = $1", 1)
			if err != nil {
				return err
			}
			return rows.Close()
		}
		mustExec(t, db, "create table "+name+" (id int)")
		require.NoError(t, query())
		mustExec(t, db, "alter table "+name+" add more int")
		require.NoError(t, query(), name)
	}
}

func TestCopyInBecomesCopyFrom(t *testing.T) {
	t.Parallel()
	theirs, ours := both(t)
	mustExec(t, ours, "create table t (id int, name text)")

	tx, err := theirs.Begin()
	require.NoError(t, err)
	//lint:ignore SA1019 it is what programs have
	st, err := tx.Prepare(pq.CopyIn("t", "id", "name"))
	require.NoError(t, err)
	_, err = st.Exec(1, "ann")
	require.NoError(t, err)
	_, err = st.Exec()
	require.NoError(t, err)
	require.NoError(t, st.Close())
	require.NoError(t, tx.Commit())

	columns := []string{"id", "name"}
	raw(t, ours, func(conn *pgx.Conn) error {
		n, err := conn.CopyFrom(t.Context(), pgx.Identifier{"t"}, columns, pgx.CopyFromRows([][]any{{2, "bob"}, {3, nil}}))
		assert.EqualValues(t, 2, n)
		return err
	})
	assert.Equal(t, "1 ann,2 bob,3", get[string](t, ours, "select string_agg(concat_ws(' ', id, name), ',' order by id) from t"))
	requireNothingLeft(t, ours)
}

// Raw has a connection of its own: inside of a transaction the transaction's connection does it.
func TestCopyInInATransactionBecomesCopyFromOnItsConnection(t *testing.T) {
	t.Parallel()
	ours := newPool(t)
	mustExec(t, ours, "create table t (id int)")
	conn, err := ours.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	for _, commit := range []bool{false, true} {
		tx, err := conn.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		require.NoError(t, conn.Raw(func(dc any) error {
			_, err := dc.(interface{ Conn() *pgx.Conn }).Conn().CopyFrom(t.Context(), pgx.Identifier{"t"}, []string{"id"},
				pgx.CopyFromRows([][]any{{1}, {2}}))
			return err
		}))
		assert.Equal(t, 2, get[int](t, tx, "select count(*) from t"))
		if commit {
			require.NoError(t, tx.Commit())
		} else {
			require.NoError(t, tx.Rollback())
		}
	}
	assert.Equal(t, 2, get[int](t, conn, "select count(*) from t"))
}

func TestCopyInLeftInACallOfPrepareIsToldWhatServes(t *testing.T) {
	t.Parallel()
	ours := newPool(t)
	mustExec(t, ours, "create table t (id int)")
	//lint:ignore SA1019 it is what programs have
	_, err := ours.Prepare(pq.CopyIn("t", "id"))
	require.ErrorContains(t, err, "use CopyFrom of the *pgx.Conn that pgprod.Raw lends")
}

func TestAListenerBecomesWaitForNotification(t *testing.T) {
	t.Parallel()
	theirs, ours := both(t)
	var listening uint32
	raw(t, ours, func(conn *pgx.Conn) error {
		listening = conn.PgConn().PID()
		if _, err := conn.Exec(t.Context(), "listen news"); err != nil {
			return err
		}
		mustExec(t, theirs, "notify news, 'from lib/pq'")
		mustExec(t, ours, "select pg_notify('news', 'from pgprod')")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for _, want := range []string{"from lib/pq", "from pgprod"} {
			n, err := conn.WaitForNotification(ctx)
			if err != nil {
				return err
			}
			assert.Equal(t, [2]string{"news", want}, [2]string{n.Channel, n.Payload})
		}
		return nil
	})
	var pids []uint32
	for range 2 { // the pool has two connections
		conn, err := ours.Conn(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		pids = append(pids, get[uint32](t, conn, "select pg_backend_pid()"))
		assert.Zero(t, get[int](t, conn, "select count(*) from pg_listening_channels()"), "who listens is lent again, and listens no longer")
	}
	assert.Contains(t, pids, listening)
}

func TestWaitingForANotificationEndsWithItsContextAndNotWithCommandTimeout(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	ours, other := open(t, "pgprod", with(dsn, "command_timeout", "1s")), open(t, "pgprod", dsn)
	raw(t, ours, func(conn *pgx.Conn) error {
		_, err := conn.Exec(t.Context(), "listen news")
		require.NoError(t, err)
		mustExec(t, other, "select pg_sleep(1.2), pg_notify('news', '')") // outlasts the command_timeout of who waits
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err = conn.WaitForNotification(ctx)
		return err
	})
	err := pgprod.Raw(t.Context(), ours, func(conn *pgx.Conn) error {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := conn.WaitForNotification(ctx)
		return err
	})
	require.ErrorIs(t, err, context.Canceled)
}

// pgx would wait for the server, which waits for rows.
func TestACopyFromStdinInAnExecFailsAtOnceInBoth(t *testing.T) {
	t.Parallel()
	theirs, ours := both(t)
	mustExec(t, ours, "create table t (id int)")
	_, err := theirs.Exec("copy t from stdin")
	require.ErrorContains(t, err, "CopyInResponse")
	for _, text := range []string{"copy t from stdin", "COPY t (id) FROM STDIN;", "\n\tcopy t\n from stdin with (format csv)",
		"-- x\ncopy t(id)from stdin", "/* y */ copy t from stdin"} {
		_, err = ours.Exec(text)
		require.ErrorContains(t, err, "COPY … FROM STDIN can't be sent by database/sql")
	}
	mustExec(t, ours, "copy t to '/dev/null'")
	assert.Zero(t, get[int](t, ours, "select count(*) from t"))
}
