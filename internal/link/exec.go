package link

import (
	"context"
	"database/sql/driver"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/pgprod/pgprod/internal/instruments"
)

// ErrBusy has pgx's words at the beginning. pgx isn't asked: in its own refusal it mixes the new statement up with the open
// rows, which then end early, and a BEGIN that is refused costs it the connection.
var ErrBusy = errors.New("pgprod: conn busy: the rows of another statement are open on this connection, close them first")

// Exec has the server execute a statement; without arguments the text may be several.
func (c *Conn) Exec(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if len(args) > 0 { // else pgx sends the text as it is
		args = c.bypass(query, args)
	}
	return c.std.ExecContext(ctx, query, args)
}

// Query has the server execute a query.
func (c *Conn) Query(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	r, err := c.std.QueryContext(ctx, query, c.bypass(query, args))
	if err != nil {
		return nil, err
	}
	c.stmt.reading = c.depth > 0 // without rows it has ended by now
	return newRows(c, r.(*stdlib.Rows), !c.stmt.reading), nil
}

// Carried is what telemetry has of a statement whose last attempt failed and that is tried again: its span and its
// duration cover all attempts. The zero value is nothing.
type Carried struct {
	op  instruments.Operation
	sql string
}

// End ends it where there was no other attempt.
func (k *Carried) End(ctx context.Context, err error) { k.op.End(ctx, -1, err, k.sql) }

// Try calls do, which has the connection execute one statement, and goes on with what was carried from attempts before.
// If that fails nobody is told: the caller decides by Unsent and Outdated whether it is tried again, and calls TakeBack, or
// Fail. A panic in do becomes an error: database/sql would otherwise keep the lock of a transaction or a *sql.Conn for ever,
// and whoever rolls the transaction back on the way out would wait for that lock (golang/go#26332).
func (c *Conn) Try(carried Carried, do func(*Conn) error) error {
	c.attempt.holding, c.attempt.mark, c.attempt.carried = true, c.tap.Mark(), carried.op
	err := c.protect(func() error { return do(c) })
	c.attempt.holding = false
	return err
}

// Confirmed reports whether the server has not warned that what it has committed is not replicated.
func (c *Conn) Confirmed() bool { return c.stmt.outcome.unconfirmed == nil }

// sentNothing reports whether not a byte was written since Try.
func (c *Conn) sentNothing() bool { return c.tap.Mark() == c.attempt.mark }

// Unsent reports whether the connection died before a byte of what was tried was written.
func (c *Conn) Unsent() bool { return c.pg.IsClosed() && c.sentNothing() }

// TakeBack returns what telemetry has of a statement that failed and is tried again.
func (c *Conn) TakeBack() Carried {
	t := &c.stmt.telling
	carried := Carried{op: t.op, sql: c.stmt.CallersText()}
	if !t.op.UnderWay() {
		carried.op = c.attempt.carried // the attempt didn't come to its statement
	}
	*t = telling{}
	c.attempt.carried = instruments.Operation{}
	return carried
}

// Fail tells of a statement that failed with err and is not tried again, and returns what its caller is told.
func (c *Conn) Fail(ctx context.Context, err error) error {
	if c.stmt.telling.held {
		c.tell()
	}
	err = c.outdatedIn(err, c.Explain(err, c.sentNothing()))
	c.attempt.carried.End(ctx, -1, err, c.stmt.CallersText())
	return err
}

// protect calls do and returns a panic in it as an error, after it has ended what the panic left half done. The connection
// must not be used by anybody else then. runtime.Goexit in do ends what is half done, and goes on.
func (c *Conn) protect(do func() error) (err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		panicked := recover()
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

// rawUse is what a caller of Raw must be told of.
type rawUse struct {
	unconfirmed *pgconn.PgError // the last warning that something is not replicated, since the connection was lent
	cut         fate            // of the last statement that was cut short since then
}

// Pgx returns the connection for a caller that may do anything with it.
func (c *Conn) Pgx(ctx context.Context) *pgx.Conn {
	c.releaseUnadopted(ctx)
	c.visit.shown = true
	return c.pgx
}

// Raw calls fn with the connection. If fn panics nobody else gets it.
func (c *Conn) Raw(ctx context.Context, fn func(*pgx.Conn) error) error {
	returned := false
	defer func() {
		if !returned {
			c.dirty = true
		}
	}()
	pc := c.Pgx(ctx)
	c.raw = rawUse{}
	err := fn(pc)
	returned = true
	if err == nil && c.raw.unconfirmed != nil {
		return c.notReplicated(c.raw.unconfirmed)
	}
	return c.explainRaw(err)
}
