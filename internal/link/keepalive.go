package link

import (
	"context"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/clock"
)

// connect returns the function that makes network connections: the application's, or our own.
func (d *Dialer) connect() pgconn.DialFunc {
	switch given := d.cfg.Given.Conn != nil; {
	case d.hooks.Dial != nil:
		return d.timed(bounded(d.hooks.Dial))
	case given && d.cfg.Conn.DialFunc != nil:
		return d.timed(bounded(d.cfg.Conn.DialFunc))
	}
	return d.dialNetwork
}

// timed returns the application's function, and has its time taken.
func (d *Dialer) timed(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		began := clock.Now()
		nc, err := dial(ctx, network, address)
		if err == nil {
			d.dialTook.Store(clock.Now() - began)
		}
		return nc, err
	}
}

// DialTook returns how long the application's function has taken to make its last network connection; 0: there is no function.
func (d *Dialer) DialTook() time.Duration { return time.Duration(d.dialTook.Load()) }

// dialNetwork makes a network connection. The system looks after it: while nothing travels it asks the other end every few
// seconds whether it still knows of the connection, so that nobody waits for ever for a host that is gone, or was replaced
// by another one under its address. With dead_after=0 that happens as seldom as Go has it.
func (d *Dialer) dialNetwork(ctx context.Context, network, address string) (net.Conn, error) {
	own := net.Dialer{Timeout: d.cfg.ConnectTimeout}
	if after := d.cfg.DeadAfter; after > 0 {
		own.KeepAliveConfig = net.KeepAliveConfig{
			Enable: true, Idle: max(after, keepAliveIdle), Interval: keepAliveInterval, Count: keepAliveCount,
		}
	}
	return own.DialContext(ctx, network, address)
}

// How the system looks after network connections.
const (
	keepAliveIdle     = 5 * time.Second // how long nothing travels before the first question
	keepAliveInterval = time.Second     // the time between two questions that were not answered
	keepAliveCount    = 9               // after so many the connection is dead
)
