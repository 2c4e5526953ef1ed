package faulttest

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// newLonelyPrimary starts a server that waits, with each commit, for a synchronous standby that doesn't exist, and creates
// the table runs.
func newLonelyPrimary(t *testing.T) *pgtest.Server {
	t.Helper()
	server := pgtest.StartTB(t, pgtest.Config{Settings: map[string]string{
		"synchronous_commit": "on", "max_wal_senders": "1", "wal_level": "replica", "max_prepared_transactions": "1",
	}})
	for _, text := range []string{
		"create table runs (note text)",
		"alter system set synchronous_standby_names = 'nobody'",
		"select pg_reload_conf()",
	} {
		require.NoError(t, server.Exec(t.Context(), text))
	}
	pgtest.Eventually(t, patience, func() bool { return len(waitingFor(t, server, "")) == 0 && isLonely(t, server) })
	return server
}

func isLonely(t *testing.T, server *pgtest.Server) bool {
	t.Helper()
	admin, err := server.Admin(t.Context())
	require.NoError(t, err)
	defer admin.Close(context.Background())
	var names string
	require.NoError(t, admin.QueryRow(t.Context(), "show synchronous_standby_names").Scan(&names))
	return names == "nobody"
}

// waitingFor lists the backends that wait for a standby to confirm their commit, and whose application has this name ("":
// any).
func waitingFor(t *testing.T, server *pgtest.Server, application string) (pids []uint32) {
	t.Helper()
	admin, err := server.Admin(t.Context())
	require.NoError(t, err)
	defer admin.Close(context.Background())
	rows, err := admin.Query(t.Context(), "select pid from pg_stat_activity where wait_event = 'SyncRep' and $1 in ('', application_name)", application)
	require.NoError(t, err)
	pids, err = pgx.CollectRows(rows, pgx.RowTo[uint32])
	require.NoError(t, err)
	return pids
}

// waitsCut is how often the server has been made to give up waiting for a standby.
func waitsCut(t *testing.T, server *pgtest.Server) int {
	t.Helper()
	log, err := os.ReadFile(server.LogFile())
	require.NoError(t, err)
	return strings.Count(string(log), "wait for synchronous replication")
}

// requireUnconfirmed checks the error of what the server says to be committed there, and confirmed by nobody.
func requireUnconfirmed(t *testing.T, err error) {
	t.Helper()
	require.ErrorIs(t, err, pgprod.ErrCommitUnknown)
	require.ErrorContains(t, err, "committed on this server, but no synchronous standby has confirmed it")
}

// TestACommitThatNoStandbyConfirmsIsUnknownAndIsNotCancelled: a cancel request would make the server say that it is done.
func TestACommitThatNoStandbyConfirmsIsUnknownAndIsNotCancelled(t *testing.T) {
	t.Parallel()
	server := newLonelyPrimary(t)
	for name, commit := range map[string]func(context.Context, *sql.DB) error{
		"Commit": func(ctx context.Context, db *sql.DB) error {
			return inTx(db, func(tx *sql.Tx) error { _, err := tx.Exec(insertLiteral); return err })
		},
		"Commit whose context ends": func(ctx context.Context, db *sql.DB) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(insertLiteral); err != nil {
				return err
			}
			return tx.Commit()
		},
		"InTx": func(ctx context.Context, db *sql.DB) error {
			return pgprod.InTx(ctx, db, func(tx *sql.Tx) error { _, err := tx.Exec(insertLiteral); return err })
		},
		"a COMMIT as text": func(ctx context.Context, db *sql.DB) error {
			return onConn(db, func(conn *sql.Conn) error {
				for _, text := range []string{"begin", insertLiteral, " /* at last */ END; "} {
					if _, err := conn.ExecContext(ctx, text); err != nil {
						return err
					}
				}
				return nil
			})
		},
		"PREPARE TRANSACTION": func(ctx context.Context, db *sql.DB) error {
			return onConn(db, func(conn *sql.Conn) error {
				for _, text := range []string{"begin", insertLiteral, "prepare transaction 'x'"} {
					if _, err := conn.ExecContext(ctx, text); err != nil {
						return err
					}
				}
				return nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			cut := waitsCut(t, server)
			db := openPool(t, with(server.DSN(""), "pool_size", "1", "max_overflow", "0", "command_timeout", "1s", "application_name", name))
			ctx, cancel := context.WithTimeout(t.Context(), 900*time.Millisecond)
			defer cancel()
			err := commit(ctx, db)
			require.ErrorIs(t, err, pgprod.ErrCommitUnknown)
			require.ErrorContains(t, err, "synchronous standby")
			require.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Len(t, waitingFor(t, server, name), 1, "it goes on waiting")
			assert.Equal(t, cut, waitsCut(t, server))
		})
	}
}

func onConn(db *sql.DB, do func(*sql.Conn) error) error {
	conn, err := db.Conn(context.Background())
	if err != nil {
		return err
	}
	return errors.Join(do(conn), conn.Close())
}

// TestAnInsertThatNoStandbyConfirmsIsUnknown is about statements that commit by themselves: the end of the caller's context,
// or somebody else, cancels them while they wait for the standby, and the server answers with success and a warning.
//
// Where rows are read the context is left out: at its end database/sql closes them itself, and may be the first to give its
// error, the context's alone.
func TestAnInsertThatNoStandbyConfirmsIsUnknown(t *testing.T) {
	t.Parallel()
	server := newLonelyPrimary(t)
	autocommit := map[string]func(context.Context, *sql.DB) error{
		"Exec": func(ctx context.Context, db *sql.DB) error {
			_, err := db.ExecContext(ctx, insertLiteral)
			return err
		},
		"Exec with a parameter": func(ctx context.Context, db *sql.DB) error {
			_, err := db.ExecContext(ctx, insertParameter, "x")
			return err
		},
		"Query": func(ctx context.Context, db *sql.DB) error {
			return drain(db.QueryContext(ctx, insertParameter, "x"))
		},
		"Query of rows": func(ctx context.Context, db *sql.DB) error {
			return drain(db.QueryContext(ctx, insertParameter+" returning note", "x"))
		},
		"Query whose rows are closed unread": func(ctx context.Context, db *sql.DB) error {
			rows, err := db.QueryContext(ctx, insertParameter+" returning note", "x")
			if err != nil {
				return err
			}
			return rows.Close()
		},
		"QueryRow": func(ctx context.Context, db *sql.DB) error {
			var note string
			return db.QueryRowContext(ctx, insertParameter+" returning note", "x").Scan(&note)
		},
		"Stmt": func(ctx context.Context, db *sql.DB) error {
			return prepared(db, insertParameter, func(stmt *sql.Stmt) error {
				_, err := stmt.ExecContext(ctx, "x")
				return err
			})
		},
		"a procedure's commit": func(ctx context.Context, db *sql.DB) error {
			_, err := db.ExecContext(ctx, "do $$ begin insert into runs values ('x'); commit; end $$")
			return err
		},
		"Raw": func(ctx context.Context, db *sql.DB) error {
			return pgprod.Raw(ctx, db, func(conn *pgx.Conn) error {
				_, err := conn.Exec(ctx, insertParameter, "x")
				return err
			})
		},
		"a batch in Raw": func(ctx context.Context, db *sql.DB) error {
			return pgprod.Raw(ctx, db, func(conn *pgx.Conn) error {
				batch := &pgx.Batch{}
				batch.Queue(insertParameter, "x")
				return conn.SendBatch(ctx, batch).Close()
			})
		},
		"CopyFrom in Raw": func(ctx context.Context, db *sql.DB) error {
			return pgprod.Raw(ctx, db, func(conn *pgx.Conn) error {
				_, err := conn.CopyFrom(ctx, pgx.Identifier{"runs"}, []string{"note"}, pgx.CopyFromRows([][]any{{"x"}}))
				return err
			})
		},
	}
	for _, mode := range execModes {
		db := openPool(t, with(server.DSN(""), "pool_size", "1", "max_overflow", "0", "default_query_exec_mode", mode))
		for name, run := range autocommit {
			t.Run(mode+"/"+name, func(t *testing.T) {
				err := cutWait(t, server, db, run, func(pid uint32, _ func()) {
					require.NoError(t, server.Exec(t.Context(), "select pg_cancel_backend($1)", pid))
				})
				requireUnconfirmed(t, err)
			})
			if strings.Contains(name, "rows") || name == "QueryRow" {
				continue
			}
			t.Run(mode+"/"+name+", its context", func(t *testing.T) {
				err := cutWait(t, server, db, run, func(_ uint32, cancel func()) { cancel() })
				requireUnconfirmed(t, err)
				require.ErrorIs(t, err, context.Canceled)
			})
		}
	}
}

// cutWait runs an insert, cuts it short when it waits for the standby, and checks that it is there all the same.
func cutWait(t *testing.T, server *pgtest.Server, db *sql.DB, run func(context.Context, *sql.DB) error, cut func(pid uint32, cancel func())) error {
	t.Helper()
	admin := openPgx(t, server.DSN(""))
	before := get[int](t, admin, "select count(*) from runs")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- run(ctx, db) }() // ends when the wait does
	var pids []uint32
	pgtest.Eventually(t, patience, func() bool { pids = waitingFor(t, server, ""); return len(pids) == 1 })
	cut(pids[0], cancel)
	err := <-result
	assert.Equal(t, before+1, get[int](t, admin, "select count(*) from runs"))
	return err
}

// TestTheServersWordOnAnUnconfirmedCommitIsTaken: somebody else ends the wait of a COMMIT.
func TestTheServersWordOnAnUnconfirmedCommitIsTaken(t *testing.T) {
	t.Parallel()
	server := newLonelyPrimary(t)
	for name, end := range map[string]string{"cancelled": "select pg_cancel_backend($1)", "terminated": "select pg_terminate_backend($1)"} {
		t.Run(name, func(t *testing.T) {
			var log logLines
			db := openPool(t, server.DSN(""), pgprod.WithLogger(log.logger()))
			result := make(chan error, 1)
			go func() { // ends when the wait does
				result <- inTx(db, func(tx *sql.Tx) error { _, err := tx.Exec(insertLiteral); return err })
			}()
			var pids []uint32
			pgtest.Eventually(t, patience, func() bool { pids = waitingFor(t, server, ""); return len(pids) == 1 })
			require.NoError(t, server.Exec(t.Context(), end, pids[0]))
			requireUnconfirmed(t, <-result)
			assert.Contains(t, log.String(), "synchronous replication", "and the log has it")
			assert.Contains(t, log.String(), "pgprod: committed on this server, but no synchronous standby has confirmed it")
			assert.Contains(t, log.String(), "reason=not_replicated")
			assert.NotContains(t, log.String(), "the reply to COMMIT was lost")
		})
	}
}

// goodbyes are the ways in which the server ends a session that is idle in a transaction. Each returns when the session
// has gone.
var goodbyes = map[string]func(t *testing.T, server *pgtest.Server, tx *sql.Tx){
	"idle_in_transaction_session_timeout": func(t *testing.T, server *pgtest.Server, tx *sql.Tx) {
		pid := get[uint32](t, tx, "select pg_backend_pid()")
		exec(t, tx, "set local idle_in_transaction_session_timeout = 50")
		awaitGone(t, server, pid)
	},
	"pg_terminate_backend": func(t *testing.T, server *pgtest.Server, tx *sql.Tx) {
		pid := get[uint32](t, tx, "select pg_backend_pid()")
		require.NoError(t, server.Terminate(t.Context(), pid))
		awaitGone(t, server, pid)
	},
}

func awaitGone(t *testing.T, server *pgtest.Server, pid uint32) {
	t.Helper()
	pgtest.Eventually(t, patience, func() bool {
		backends, err := server.Backends(t.Context())
		require.NoError(t, err)
		return !slices.ContainsFunc(backends, func(b pgtest.Backend) bool { return b.PID == pid })
	})
}

// plainAndTLS runs a test on a server, without TLS and with it, where the server's last words can't be read in passing.
func plainAndTLS(t *testing.T, test func(t *testing.T, server *pgtest.Server, dsn string)) {
	for name, cfg := range map[string]pgtest.Config{"plain": {}, "TLS": {TLS: &pgtest.TLS{}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := pgtest.StartTB(t, cfg)
			require.NoError(t, server.Exec(t.Context(), "create table runs (note text)"))
			test(t, server, server.DSN(""))
		})
	}
}

func TestACommitAfterTheServersGoodbyeIsKnownNotToHaveHappened(t *testing.T) {
	t.Parallel()
	plainAndTLS(t, func(t *testing.T, server *pgtest.Server, dsn string) {
		for name, sayGoodbye := range goodbyes {
			t.Run(name, func(t *testing.T) {
				db := openPool(t, dsn)
				tx, err := db.Begin()
				require.NoError(t, err)
				exec(t, tx, insertLiteral)
				sayGoodbye(t, server, tx)
				err = tx.Commit()
				require.ErrorContains(t, err, "COMMIT was not sent")
				require.NotErrorIs(t, err, pgprod.ErrCommitUnknown)
				assert.NotEmpty(t, sqlState(err), "the server's reason")
				assert.Zero(t, get[int](t, db, "select count(*) from runs"))
			})
		}
	})
}

func TestInTxBeginsAgainAfterTheServersGoodbye(t *testing.T) {
	t.Parallel()
	plainAndTLS(t, func(t *testing.T, server *pgtest.Server, dsn string) {
		for name, sayGoodbye := range goodbyes {
			for when, then := range map[string]func(*sql.Tx) error{
				"before COMMIT":      func(*sql.Tx) error { return nil },
				"before a statement": func(tx *sql.Tx) error { _, err := tx.Exec("select 1"); return err },
			} {
				t.Run(name+"/"+when, func(t *testing.T) {
					db := openPool(t, dsn)
					exec(t, db, "truncate runs")
					attempts := 0
					require.NoError(t, pgprod.InTx(t.Context(), db, func(tx *sql.Tx) error {
						exec(t, tx, insertLiteral)
						if attempts++; attempts == 1 {
							sayGoodbye(t, server, tx)
							return then(tx)
						}
						return nil
					}))
					assert.Equal(t, 2, attempts)
					assert.Equal(t, 1, get[int](t, db, "select count(*) from runs"))
				})
			}
		}
	})
}

// slowCommit makes each COMMIT of an insert into runs take a minute, in a trigger that is deferred to it.
const slowCommit = `
create function dawdle() returns trigger language plpgsql as $$ begin perform pg_sleep(60); return null; end $$;
create constraint trigger dawdle after insert on runs deferrable initially deferred for each row execute function dawdle()`

// TestAGoodbyeInPlaceOfACommitIsTheServersWord: PostgreSQL ends a session between two steps, never in the midst of a commit.
func TestAGoodbyeInPlaceOfACommitIsTheServersWord(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	for _, text := range []string{"create table runs (note text)", slowCommit} {
		require.NoError(t, server.Exec(t.Context(), text))
	}
	db := openPool(t, server.DSN(""))
	tx, err := db.Begin()
	require.NoError(t, err)
	exec(t, tx, insertLiteral)
	pid := get[uint32](t, tx, "select pg_backend_pid()")
	result := make(chan error, 1)
	go func() { result <- tx.Commit() }() // ends with its session
	pgtest.Eventually(t, patience, func() bool {
		return get[int](t, db, "select count(*) from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'", pid) == 1
	})
	require.NoError(t, server.Terminate(t.Context(), pid))
	err = <-result
	require.ErrorContains(t, err, "the transaction was not committed, the server ended the session instead")
	require.NotErrorIs(t, err, pgprod.ErrCommitUnknown)
	assert.Equal(t, "57P01", sqlState(err))
	assert.Zero(t, get[int](t, db, "select count(*) from runs"))
}

// TestThePostmastersEndInPlaceOfACommitIsTheServersWord: a session notices that its postmaster was killed when it waits for a
// message, so that it has not got the COMMIT. Here that is on its way to it.
func TestThePostmastersEndInPlaceOfACommitIsTheServersWord(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Settings: map[string]string{"synchronous_commit": "on"}})
	require.NoError(t, server.Exec(t.Context(), "create table runs (note text)"))
	proxy := faultproxy.StartTB(t, server.DSN(""))
	db := openPool(t, proxy.DSN())
	tx, err := db.Begin()
	require.NoError(t, err)
	exec(t, tx, insertLiteral)
	proxy.SetLatency(faultproxy.ToServer, time.Hour)
	result := make(chan error, 1)
	go func() { result <- tx.Commit() }() // ends with its session
	pgtest.Eventually(t, patience, func() bool { return executed(proxy, "commit") == 1 })
	require.NoError(t, syscall.Kill(postmasterOf(t, server), syscall.SIGKILL))
	err = <-result
	require.ErrorContains(t, err, "the transaction was not committed, the server ended the session instead")
	require.NotErrorIs(t, err, pgprod.ErrCommitUnknown)
	pg, ok := errors.AsType[*pgconn.PgError](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, "secure_read", pg.Routine)

	proxy.SetLatency(faultproxy.ToServer, 0)
	pgtest.Eventually(t, patience, func() bool { return server.Resume(t.Context()) == nil }, "once all sessions have ended")
	assert.Zero(t, get[int](t, db, "select count(*) from runs"))
}
