package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgprod/pgprod/internal/wire"
)

// What a configuration of pgx's that was given in code has functions for, and this package has its own functions for too, is
// called one after the other. cc is the configuration for one dial, before this package's functions are in it.

// tracer returns this connection's tracer, with that of the configuration behind it.
func (d *dialling) tracer(cc *pgx.ConnConfig) pgx.QueryTracer {
	if cc.Tracer == nil {
		return d.conn
	}
	return multitracer.New(d.conn, cc.Tracer)
}

// onNotice returns the function that gets notices, with that of the configuration behind it.
func (d *dialling) onNotice(cc *pgx.ConnConfig) pgconn.NoticeHandler {
	c, next := d.conn, cc.OnNotice
	return func(pg *pgconn.PgConn, n *pgconn.Notice) {
		c.noticed(n)
		if next != nil {
			next(pg, n)
		}
	}
}

// buildFrontend returns the function that makes the frontend: by the configuration's function, on this connection's Tap.
func (d *dialling) buildFrontend(cc *pgx.ConnConfig) pgconn.BuildFrontendFunc {
	c, build := d.conn, cc.BuildFrontend
	if build == nil {
		build = pgproto3.NewFrontend
	}
	return func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		c.tap = wire.NewTap(r, w, c.guard.ReadAgain)
		return build(c.tap, c.tap)
	}
}

// keepGiven prepares the other functions of a configuration that was given: a panic in one of them becomes an error, they end
// with the dial, and its AfterConnect isn't called for a health check.
func (d *dialling) keepGiven(cc *pgx.ConnConfig) {
	if d.cfg.Given.Conn == nil {
		return
	}
	if cc.LookupFunc == nil {
		cc.LookupFunc = net.DefaultResolver.LookupHost
	}
	if f := cc.AfterNetConnect; f != nil {
		cc.AfterNetConnect = d.afterNetConnect(f)
	}
	if f := cc.ValidateConnect; f != nil {
		cc.ValidateConnect = func(ctx context.Context, pg *pgconn.PgConn) error {
			return inTime(ctx, "ValidateConnect", func() error { return f(ctx, pg) })
		}
	}
	switch f := cc.AfterConnect; {
	case f == nil:
	case d.check != nil:
		cc.AfterConnect = nil
	default:
		cc.AfterConnect = func(ctx context.Context, pg *pgconn.PgConn) error {
			return inTime(ctx, "AfterConnect", func() error { return f(ctx, pg) })
		}
	}
}

// afterNetConnect returns the configuration's AfterNetConnect. What it returns is taken for a transport of the application's.
func (d *dialling) afterNetConnect(f func(context.Context, *pgconn.Config, net.Conn) (net.Conn, error)) func(
	context.Context, *pgconn.Config, net.Conn) (net.Conn, error) {
	return func(ctx context.Context, config *pgconn.Config, c net.Conn) (net.Conn, error) {
		var wrapped net.Conn
		err := inTime(ctx, "AfterNetConnect", func() (err error) {
			wrapped, err = f(ctx, config, c)
			return err
		})
		switch {
		case err != nil:
			return c, err // pgx closes what is returned
		case wrapped == nil:
			return c, errors.New("AfterNetConnect has returned no connection")
		case wrapped == c:
			return c, nil
		}
		d.conn.encrypted = wire.Encrypted(c)
		remote := c.RemoteAddr()
		return wire.Adopt(wrapped, remote.Network(), remote.String()), nil
	}
}

// inTime calls a function of the application's, and returns its error as it is, for pgx looks at its type. If the function
// panics, ends its goroutine, or doesn't return before ctx ends, the error says which function it was.
func inTime(ctx context.Context, name string, f func() error) error {
	done := make(chan error, 1) // has room for the result, so that the goroutine ends in any case
	go callHook(done, f)        // ends when the application's function does
	err, returned := awaitHook(ctx, done)
	_, panicked := errors.AsType[*dialPanic](err)
	switch {
	case !returned:
		return fmt.Errorf("%s: %w: %w", name, errHookHangs, ctx.Err())
	case panicked, errors.Is(err, errHookEnded):
		return fmt.Errorf("%s: %w", name, err)
	}
	return err
}
