package main

import (
	"context"
	"fmt"
	"net"
	"runtime"

	"github.com/jackc/pgx/v5"

	"github.com/pgprod/pgprod"
)

// limits are the limits that the server and its machine set to a pool.
type limits struct {
	max   int // the server's max_connections
	free  int // how many of these this program may have, at least 1
	cores int // processors of the server's machine, if that is this machine; else 0
}

// askLimits asks the server for its limits. The pool must have one connection at most, which isn't counted as taken.
func askLimits(ctx context.Context, p *pool) (l limits, err error) {
	var taken int
	var same bool
	err = pgprod.Raw(ctx, p.DB, func(conn *pgx.Conn) error {
		same = isLocal(conn.PgConn().Conn().RemoteAddr())
		var here bool
		err := conn.QueryRow(ctx, `
			select current_setting('max_connections')::int,
				current_setting('superuser_reserved_connections')::int
					+ coalesce(current_setting('reserved_connections', true), '0')::int
					+ (select count(*) from pg_stat_activity where datid is not null and pid <> pg_backend_pid()),
				coalesce(inet_server_addr() = inet_client_addr(), true)`).Scan(&l.max, &taken, &here)
		same = same && here
		return err
	})
	if err != nil {
		return l, fmt.Errorf("ask for max_connections: %w", err)
	}
	l.free = max(1, l.max-taken)
	if same {
		l.cores = runtime.NumCPU()
	}
	return l, nil
}

// isLocal reports whether an address is on this machine.
func isLocal(a net.Addr) bool {
	switch a := a.(type) {
	case *net.UnixAddr:
		return true
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	}
	return false
}
