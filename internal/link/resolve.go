package link

import (
	"context"
	"net"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/hosts"
	"github.com/pgprod/pgprod/internal/pgerror"
)

// An address is one of those that a host's name resolves to.
type address struct {
	text      string        // as the lookup has returned it, with or without a port; "": the host is a socket
	headStart time.Duration // how long it is tried before the next one is tried as well
}

// addresses returns where a host is now, those that have failed lately last.
func (l *lane) addresses(ctx context.Context) ([]address, error) {
	at, check := l.host.At(), l.race.check
	if filepath.IsAbs(at.Host) {
		return []address{{}}, nil
	}
	if check != nil && check.At.Address != "" {
		return []address{{text: check.At.Address}}, nil
	}
	all, err := l.race.lookup(ctx, at.Host)
	if err != nil {
		return nil, err
	}
	return l.race.paths.sort(l.host, all, l.headStart), nil
}

// lookup resolves a name as pgx would. What the application's dial function gets is not resolved.
func (d *Dialer) lookup(ctx context.Context, name string) (all []string, err error) {
	lookup := d.cfg.Conn.LookupFunc
	switch {
	case d.hooks.Dial != nil:
		return []string{name}, nil
	case lookup == nil:
		return net.DefaultResolver.LookupHost(ctx, name)
	case d.cfg.Given.Conn == nil:
		return lookup(ctx, name)
	}
	err = inTime(ctx, "LookupFunc", func() (err error) {
		all, err = lookup(ctx, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// Resolves reports whether a host of the DSN is a name that this process resolves, so that it may lead elsewhere one day.
func (d *Dialer) Resolves(h *hosts.Host) bool { return h.IsName() && d.hooks.Dial == nil }

// LookUp returns what the name of a host resolves to now, as for a dial.
func (d *Dialer) LookUp(ctx context.Context, h *hosts.Host) ([]string, error) {
	return d.lookup(ctx, h.At().Host)
}

// lookupFunc returns a function that resolves any name to this address; nil for a socket.
func (a address) lookupFunc() pgconn.LookupFunc {
	if a.text == "" {
		return nil
	}
	return func(context.Context, string) ([]string, error) { return []string{a.text}, nil }
}

// connect tries the addresses of a host. It returns nil if one of them has given the race its winner, else why none has.
func (l *lane) connect(ctx context.Context) error {
	all, err := l.addresses(ctx)
	if err != nil || len(all) == 0 { // pgx makes its own error of it
		_, err = l.try(ctx, func(context.Context, string) ([]string, error) { return nil, err })
		return err
	}
	return l.tryAll(ctx, all)
}

// tryAll tries addresses: the others when the first one has failed, or has had its head start. It returns when all that were tried
// have ended.
func (l *lane) tryAll(ctx context.Context, all []address) error {
	first, others := all[0], all[1:]
	if len(others) == 0 {
		return l.tryOne(ctx, first)
	}
	done := make(chan error, 1)                  // has room for the result, though it is always received
	go func() { done <- l.tryOne(ctx, first) }() // ends with ctx, or after connect_timeout
	ahead := time.NewTimer(first.headStart)
	defer ahead.Stop()
	select {
	case err := <-done:
		if err == nil || !l.race.open() {
			return err
		}
		return either(err, l.tryAll(ctx, others))
	case <-ahead.C:
	}
	if !l.race.open() {
		return <-done
	}
	if first.headStart > 0 {
		l.race.paths.failed(l.host, first.text)
	}
	err := l.tryAll(ctx, others)
	return either(<-done, err)
}

// tryOne makes a connection to an address, and remembers how that went.
func (l *lane) tryOne(ctx context.Context, a address) error {
	met, err := l.try(ctx, a.lookupFunc())
	switch {
	case met:
		l.race.paths.serves(l.host, a.text)
	case ctx.Err() == nil && pgerror.BlamesHost(err):
		l.race.paths.failed(l.host, a.text)
	}
	return err
}

// either returns nil if one of two errors is, else both.
func either(a, b error) error {
	if a == nil || b == nil {
		return nil
	}
	return joinFailures(slices.Concat(failuresIn(a), failuresIn(b)))
}
