package link

import (
	"context"
	"errors"
	"net"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/wire"
)

// useDialFunc has the application's dial function, if there is one, make the network connections of one dial and its cancel
// requests. Names of hosts go to it unresolved: it may be that only the other end of a tunnel can resolve them.
func (d *dialling) useDialFunc(cc *pgx.ConnConfig) {
	cc.DialFunc = d.connect()
	if d.hooks.Dial == nil {
		return
	}
	cc.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
}

// A DialFuncError is a failure of the application's dial function that isn't an error which it has returned.
type DialFuncError struct{ Cause error } // Cause is never nil

func (e *DialFuncError) Error() string { return "dial function: " + e.Cause.Error() }

// Unwrap returns the cause.
func (e *DialFuncError) Unwrap() error { return e.Cause }

var errNoConn = errors.New("it has returned neither a connection nor an error")

// bounded returns the application's dial function as pgx and the guard need it: it returns when its context ends, a panic is
// an error, and its connections have what wire.Adopt adds.
func bounded(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialled, done := net.Conn(nil), make(chan error, 1) // has room for the result, so that the goroutine ends in any case
		go callHook(done, func() (err error) {              // ends when the application's function does
			dialled, err = dial(ctx, network, addr)
			return err
		})
		select {
		case err := <-done:
			return adopted(dialled, err, network, addr)
		case <-ctx.Done():
			go func() { // ends when the application's function does
				if <-done == nil && dialled != nil {
					_ = dialled.Close()
				}
			}()
			return nil, ctx.Err()
		}
	}
}

// adopted returns the outcome of the application's dial function for pgx.
func adopted(c net.Conn, err error, network, addr string) (net.Conn, error) {
	_, panicked := errors.AsType[*dialPanic](err)
	switch {
	case panicked, err == errHookEnded:
		return nil, &DialFuncError{Cause: err}
	case err != nil:
		return nil, err
	case c == nil:
		return nil, &DialFuncError{Cause: errNoConn}
	}
	return wire.Adopt(c, network, addr), nil
}
