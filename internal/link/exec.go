package link

import (
	"context"
	"database/sql/driver"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/sqlsummary"
)

// ErrBusy is the error of a statement while the rows of another one are open on the connection. It contains the words of
// pgx's own error, which applications may know. The statement doesn't get as far as pgx, which would end the open rows early
// when it refuses a statement, and would close the connection when it refuses a BEGIN.
var ErrBusy = errors.New("pgprod: conn busy: the rows of another statement are open on this connection, close them first")

// Exec has the server execute a statement. If there are no arguments, the text may consist of several statements. It is
// called within Try.
func (c *Conn) Exec(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	bare, isSimple := !hasArguments(args), true
	if !bare { // without arguments pgx sends the text by the simple protocol, past its cache
		args = c.bypass(ctx, query, args)
		isSimple = c.goesSimple(args) || rewrites(args) // which may leave no arguments
	}
	if bare && (c.hasRiders(ctx) || c.wantsTrace(ctx)) && c.goesExtended(query) {
		return c.execExtended(ctx, query)
	}
	if err := c.board(ctx, query, wayOf(isSimple)); err != nil {
		return nil, err
	}
	c.attempt.simple = isSimple
	result, err := c.std.ExecContext(ctx, query, args)
	if err = c.getOff(err); err != nil && c.stmt.outcome.proven {
		return driver.RowsAffected(c.stmt.Tag.RowsAffected()), nil
	}
	return result, err
}

// goesExtended reports whether a text without arguments, which pgx sends by the simple protocol, can go by the extended
// protocol as well: it is one statement, and has nothing that the two treat in different ways, as they do a parameter without
// an argument. What is in its literals makes no difference, since some libraries write values into the text.
func (c *Conn) goesExtended(query string) bool {
	if c.dialer.cfg.Conn.DefaultQueryExecMode == pgx.QueryExecModeSimpleProtocol || strings.IndexByte(query, 0) >= 0 {
		return false
	}
	quick := isSingle(query) && beginsOtherwise(query) && strings.IndexByte(query, '$') < 0
	return quick || sqlsummary.IsPlain(query)
}

// execExtended executes a statement without arguments, which pgx would send by the simple protocol, by the extended protocol,
// since something travels with it.
func (c *Conn) execExtended(ctx context.Context, query string) (driver.Result, error) {
	if err := c.board(ctx, query, extended); err != nil {
		return nil, err
	}
	rows, err := c.pgx.Query(ctx, query, pgx.QueryExecModeExec)
	if err == nil {
		rows.Close()
		err = rows.Err()
	}
	if err = c.getOff(err); err != nil {
		return nil, err
	}
	return driver.RowsAffected(rows.CommandTag().RowsAffected()), nil
}

// Query has the server execute a query and returns its rows. The statement goes on until the rows are closed, unless there
// is no row: then pgx has ended it by now. It is called within Try.
func (c *Conn) Query(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	args = c.bypass(ctx, query, args)
	if err := c.board(ctx, query, wayOf(query == "" || c.goesSimple(args))); err != nil {
		return nil, err
	}
	r, err := c.std.QueryContext(ctx, query, args)
	if err = c.getOff(err); err != nil {
		return nil, err
	}
	c.stmt.reading = c.depth > 0 // false if the query has ended, since it has no row
	return newRows(c, r.(*stdlib.Rows), !c.stmt.reading), nil
}

// hasArguments reports whether there are any, besides how the caller wants the statement to be sent.
func hasArguments(args []driver.NamedValue) bool {
	for i := range args {
		switch args[i].Value.(type) {
		case pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID:
		default:
			return true
		}
	}
	return false
}

// rewrites reports whether pgx rewrites a statement with these arguments before it is sent.
func rewrites(args []driver.NamedValue) bool {
	for i := range args {
		if _, rewriter := args[i].Value.(pgx.QueryRewriter); rewriter {
			return true
		}
	}
	return false
}

// goesSimple reports whether pgx sends a statement with these arguments by the simple protocol. The first of them may be
// how its caller wants it to be sent.
func (c *Conn) goesSimple(args []driver.NamedValue) bool {
	mode := c.dialer.cfg.Conn.DefaultQueryExecMode
	for i := range args {
		switch arg := args[i].Value.(type) {
		case pgx.QueryExecMode:
			mode = arg
			continue
		case pgx.QueryRewriter, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID:
			continue
		}
		break
	}
	return mode == pgx.QueryExecModeSimpleProtocol
}

// Carried is the span and the duration of a statement that has failed and is tried again. It is carried from one attempt to
// the next, perhaps on another connection, so that one span and one duration cover all attempts. The zero value is that of a
// statement which was not tried yet.
type Carried struct {
	op      instruments.Operation
	sql     string
	counted *counted
}

// End ends the span and the duration with err. It is called if there is no further attempt, for want of a connection.
func (k *Carried) End(ctx context.Context, err error) { k.op.End(ctx, -1, err, k.sql) }

// Try is one attempt at a statement: it calls do, which has the connection execute the statement, and returns its error.
// carried comes from the attempts before.
//
// While do runs, a failure is not reported. If Try returns an error, the caller decides by Outdated, MayRunHere and
// MayRunElsewhere whether the statement is tried again, and then calls TakeBack; otherwise it calls Fail, which reports the
// failure.
//
// A panic in do becomes an error. database/sql doesn't release the lock of a transaction or a *sql.Conn when a driver
// panics, and whoever rolled the transaction back on the way out would wait for that lock for ever (golang/go#26332).
func (c *Conn) Try(carried Carried, do func(*Conn) error) error {
	c.attempt.undecided, c.attempt.carried, c.attempt.counted = true, carried.op, carried.counted
	c.NoteAttempt()
	c.attempt.simple = false
	err := c.protect(func() error { return do(c) })
	c.attempt.undecided = false
	return err
}

// Confirmed reports false if the server has warned that the last statement is committed but not replicated. Then the
// statement is treated as one that failed, although pgx returns no error.
func (c *Conn) Confirmed() bool { return c.stmt.outcome.unconfirmed == nil }

// TakeBack is called after Try has failed, if the statement is tried again. The failure will not be reported; the span and
// the duration, which have not ended, are returned for the next attempt.
func (c *Conn) TakeBack() Carried {
	t := &c.stmt.telemetry
	carried := Carried{op: t.op, sql: c.stmt.CallersText(), counted: c.attempt.counted}
	if !t.op.UnderWay() {
		carried.op = c.attempt.carried // pgx failed before its tracer was called, so no statement has taken it over
	}
	*t = telemetry{}
	c.attempt.carried = instruments.Operation{}
	return carried
}

// Fail is called after Try has failed with err, if the statement is not tried again. It reports the failure and returns the
// error that the statement's caller gets.
func (c *Conn) Fail(ctx context.Context, err error) error {
	if c.stmt.telemetry.unreported {
		c.report()
	}
	if c.pg.IsClosed() && c.attempt.turned == elsewhere {
		c.tx.beginSent(true) // what began with this statement won't begin on another connection
	}
	if c.tx.open && c.demoted(err) {
		err = c.rolledBack("the server takes no writes any more, the transaction is rolled back", err)
	} else {
		err = c.outdatedIn(err, c.Explain(err, c.ExecutedNothing()))
	}
	c.attempt.carried.End(ctx, -1, err, c.stmt.CallersText())
	return err
}

// protect calls do and returns its error. If do panics, protect ends the statement that was under way, marks the connection
// as dirty and returns the panic as an error. If runtime.Goexit ends the goroutine within do, it does the same, and the
// goroutine goes on ending.
func (c *Conn) protect(do func() error) (err error) {
	returned := false
	c.attempt.protected = true
	defer func() {
		c.attempt.protected = false
		c.stmt.profiled.leave()
		if returned {
			return
		}
		panicked := recover()
		c.ride = ride{}
		c.tap.GetOff()
		c.abandon()
		c.dirty = true
		if panicked != nil {
			err = newPanicError(panicked)
		}
	}()
	err = do()
	returned = true
	return err
}

// rawUse is what happened during a call of Raw and has to be in its error, though the function that was called doesn't know
// it.
type rawUse struct {
	unconfirmed *pgconn.PgError // the last warning that a commit is not replicated; nil: none
	cut         fate            // what cut short the last statement that was; zero: none was
	refused     error           // why a statement was refused because of what its context brings; nil: none was
	lent        bool            // pgx's connection is lent: Raw was called, and no statement of database/sql's since
}

// Lend is called before Raw, and before a caller of (*sql.Conn).Raw gets what Pgx returns, who may do anything with it. A
// transaction that was begun without having sent anything begins on the server, and what earlier borrowers left is undone.
func (c *Conn) Lend(ctx context.Context) error {
	if c.pg.IsBusy() { // rows are open: neither we nor that caller can send anything
		c.raw.lent = true
	} else if err := c.board(ctx, "", raw); err != nil {
		return err
	}
	c.visit.shown = true
	return nil
}

// Pgx returns pgx's connection. Lend must have been called.
func (c *Conn) Pgx() *pgx.Conn { return c.pgx }

// Raw calls fn with pgx's connection and returns its error, explained if it is pgx's for a statement that was cut short. If
// fn panics, the connection is dirty afterwards and the panic goes on. Lend must have been called.
func (c *Conn) Raw(fn func(*pgx.Conn) error) error {
	returned := false
	defer func() {
		if !returned {
			c.dirty = true
		}
	}()
	c.raw = rawUse{lent: true}
	err := fn(c.pgx)
	returned = true
	c.raw.lent = false
	if err == nil && c.raw.unconfirmed != nil {
		return c.notReplicated(c.raw.unconfirmed)
	}
	return c.explainRaw(err)
}
