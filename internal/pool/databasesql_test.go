package pool

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// Each test of this file is about one thing that database/sql does, that sessions or members rely on, and that its documentation
// doesn't promise. internal/README.md has the list of all such tests.

// A plainConn is a driver's connection that notes what database/sql calls, and does nothing.
type plainConn struct {
	in *asked
}

// asked is what database/sql has asked of all connections.
type asked struct {
	mu      sync.Mutex // guards what follows
	calls   []string
	invalid bool   // what IsValid says
	inQuery func() // what a query does, besides having no rows
}

func (a *asked) note(call string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, call)
}

// all are the calls so far.
func (a *asked) all() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.calls)
}

var (
	_ driver.Conn           = plainConn{}
	_ driver.ConnBeginTx    = plainConn{}
	_ driver.ExecerContext  = plainConn{}
	_ driver.QueryerContext = plainConn{}
)

func (c plainConn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("not here") }
func (c plainConn) Begin() (driver.Tx, error)           { return nil, errors.New("not here") }
func (c plainConn) Close() error                        { c.in.note("Close"); return nil }

func (c plainConn) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) {
	c.in.note("BeginTx")
	return plainTx(c), nil
}

func (c plainConn) ExecContext(context.Context, string, []driver.NamedValue) (driver.Result, error) {
	c.in.note("Exec")
	return driver.ResultNoRows, nil
}

func (c plainConn) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	c.in.note("Query")
	c.in.inQuery()
	return nil, errors.New("no rows")
}

type plainTx plainConn

func (x plainTx) Commit() error   { x.in.note("Commit"); return nil }
func (x plainTx) Rollback() error { x.in.note("Rollback"); return nil }

// A sessionConn is one with the interfaces that a session and a member have.
type sessionConn struct{ plainConn }

var (
	_ driver.Validator       = sessionConn{}
	_ driver.SessionResetter = sessionConn{}
)

func (c sessionConn) ResetSession(context.Context) error { return nil }

func (c sessionConn) IsValid() bool {
	c.in.note("IsValid")
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	return !c.in.invalid
}

// An asking is the driver of either kind of connections.
type asking func() driver.Conn

var _ driver.Connector = asking(nil)

func (c asking) Connect(context.Context) (driver.Conn, error) { return c(), nil }
func (c asking) Driver() driver.Driver                        { return nil }

// openAsked opens a *sql.DB that the end of the test closes.
func openAsked(t *testing.T) (*sql.DB, *asked) {
	t.Helper()
	in := &asked{}
	return openConns(t, func() driver.Conn { in.note("Connect"); return sessionConn{plainConn{in}} }), in
}

func openConns(t *testing.T, connect asking) *sql.DB {
	t.Helper()
	db := sql.OpenDB(connect)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return db
}

// TestDatabaseSQLStillAsksIsValidWhenItPutsASessionAway is how a session knows that it has to give its connection back.
func TestDatabaseSQLStillAsksIsValidWhenItPutsASessionAway(t *testing.T) {
	t.Parallel()
	db, in := openAsked(t)
	_, err := db.Exec("x")
	require.NoError(t, err)
	assert.Equal(t, []string{"Connect", "Exec", "IsValid"}, in.all())

	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	assert.Equal(t, []string{"IsValid"}, in.all()[3:], "though nothing was done with it")
}

// TestDatabaseSQLStillClosesAtOnceWhatIsNotValid is how discard gets a member out of the inner *sql.DB.
func TestDatabaseSQLStillClosesAtOnceWhatIsNotValid(t *testing.T) {
	t.Parallel()
	db, in := openAsked(t)
	in.invalid = true
	_, err := db.Exec("x")
	require.NoError(t, err)
	assert.Equal(t, []string{"Connect", "Exec", "IsValid", "Close"}, in.all())
}

// TestDatabaseSQLStillClosesASessionWithoutAskingAfterAPanicInRaw is why (*session).Close gives the connection back as well.
func TestDatabaseSQLStillClosesASessionWithoutAskingAfterAPanicInRaw(t *testing.T) {
	t.Parallel()
	db, in := openAsked(t)
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	assert.Panics(t, func() { _ = conn.Raw(func(any) error { panic("x") }) })
	assert.Equal(t, []string{"Connect", "Close"}, in.all())
}

// TestDatabaseSQLStillClosesASessionWithoutAskingAfterErrBadConnFromRaw is the other reason for it.
func TestDatabaseSQLStillClosesASessionWithoutAskingAfterErrBadConnFromRaw(t *testing.T) {
	t.Parallel()
	db, in := openAsked(t)
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	require.Equal(t, driver.ErrBadConn, conn.Raw(func(any) error { return driver.ErrBadConn }))
	assert.Equal(t, []string{"Connect", "Close"}, in.all())
}

// TestDatabaseSQLStillKeepsASessionWhoseTransactionsContextEnds is why a session has ResetSession and IsValid, and Rollback has
// to leave the connection in order.
func TestDatabaseSQLStillKeepsASessionWhoseTransactionsContextEnds(t *testing.T) {
	t.Parallel()
	plain := &asked{}
	closes := openConns(t, func() driver.Conn { plain.note("Connect"); return plainConn{plain} })
	keeps, session := openAsked(t)
	for db, want := range map[*sql.DB]struct {
		in    *asked
		calls []string
	}{
		closes: {plain, []string{"Connect", "BeginTx", "Rollback", "Close"}},
		keeps:  {session, []string{"Connect", "BeginTx", "Rollback", "IsValid"}},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := db.BeginTx(ctx, nil)
		require.NoError(t, err)
		cancel()
		pgtest.Eventually(t, 20*time.Second, func() bool { return db.Stats().InUse == 0 }, "not rolled back")
		assert.Equal(t, want.calls, want.in.all())
	}
}

// TestDatabaseSQLStillNeverGetsASessionBackWhoseQueryPanicsOrEndsItsGoroutine is why a panic in the midst of a query becomes an
// error, and why unlessEnded gives the connection back (golang/go#26332).
func TestDatabaseSQLStillNeverGetsASessionBackWhoseQueryPanicsOrEndsItsGoroutine(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(){"panic": func() { panic("x") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, in := openAsked(t)
			in.inQuery = end
			done := make(chan struct{})
			go func() { // ends with the query
				defer close(done)
				defer func() { _ = recover() }()
				rows, err := db.Query("x")
				t.Error("it returns", rows, err)
			}()
			<-done
			assert.Equal(t, 1, db.Stats().InUse)
			assert.Equal(t, []string{"Connect", "Query"}, in.all())
		})
	}
}

// TestDatabaseSQLStillConnectsOnlyIfNothingIsIdle is what (*Pool).enter takes into account.
func TestDatabaseSQLStillConnectsOnlyIfNothingIsIdle(t *testing.T) {
	t.Parallel()
	db, in := openAsked(t)
	for range 2 {
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
	assert.Equal(t, []string{"Connect", "IsValid", "IsValid"}, in.all())
}
