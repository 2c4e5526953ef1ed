package link

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A Door is where somebody may answer: what was dialled for connections of the pool.
type Door struct{ network, address string }

// Door returns where the connection was made to. It may be called at any time.
func (c *Conn) Door() Door {
	at := c.Address()
	if filepath.IsAbs(at) || strings.HasPrefix(at, "@") {
		return Door{"unix", at}
	}
	return Door{"tcp", at}
}

// Knock asks whether somebody answers behind a door, over a network connection of its own, which is made as those of the pool's
// connections are. The question is whether the connection may be encrypted, since the server answers that before any login, at
// once, and doesn't mention it in its log; gss says that it is asked for GSSAPI, else for TLS. Only a PostgreSQL that has no
// use for GSSAPI, or TLS, is left in peace by a program that asks and leaves, so that gss is to be tried first: with TLS the
// server's log has a line that the handshake has failed.
//
// Whatever comes is an answer: also the end of the connection, and the refusal to make one. It returns nil then, and also if
// it can't be asked, for a reason that says nothing of the other end. Otherwise it returns why there is no answer: as a rule, that
// ctx has ended.
func (d *Dialer) Knock(ctx context.Context, at Door, gss bool) error {
	nc, err := d.connect()(ctx, at.network, at.address)
	if err != nil {
		return unanswered(ctx, err)
	}
	defer func() { _ = nc.Close() }()
	defer context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })()
	wrapped, err := d.wrapped(ctx, nc)
	if err != nil {
		return unanswered(ctx, err)
	}
	return unanswered(ctx, exchange(wrapped, gss))
}

// exchange sends the question and waits for the first byte of an answer.
func exchange(nc net.Conn, gss bool) error {
	question := []byte{0, 0, 0, 8, 4, 210, 22, 47} // SSLRequest
	if gss {
		question[7] = 48 // GSSENCRequest
	}
	if _, err := nc.Write(question); err != nil {
		return err
	}
	_, err := io.ReadFull(nc, question[:1])
	return err
}

// wrapped returns what the AfterNetConnect of a configuration that was given in code makes of a network connection.
func (d *Dialer) wrapped(ctx context.Context, nc net.Conn) (net.Conn, error) {
	f := d.cfg.Conn.AfterNetConnect
	if f == nil {
		return nc, nil
	}
	made := nc
	err := inTime(ctx, "AfterNetConnect", func() (err error) {
		made, err = f(ctx, &d.cfg.Conn.Config, nc)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case made == nil:
		return nc, nil
	}
	return made, nil
}

// unanswered returns err if it says that there is no answer, and nil if it is one, or says nothing of the other end.
func unanswered(ctx context.Context, err error) error {
	network, _ := errors.AsType[net.Error](err)
	_, noName := errors.AsType[*net.DNSError](err)
	switch {
	case err == nil, noName:
		return nil
	case ctx.Err() != nil, errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		network != nil && network.Timeout(),
		errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return err
	}
	return nil
}
