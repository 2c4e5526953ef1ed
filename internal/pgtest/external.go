package pgtest

import (
	"context"
	"fmt"
	"net/url"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// attach returns a Server for one that is running already, and that we don't control.
func attach(ctx context.Context, dsn string) (*Server, error) {
	u, err := url.Parse(dsn)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		// Without the cause, which quotes the DSN with its password.
		return nil, fmt.Errorf("pgtest: DB_TEST_DSN must be a URL: postgres://user:password@host:port/database")
	}
	s := &Server{external: u}
	err = s.withAdmin(ctx, func(conn *pgx.Conn) error {
		s.port = int(conn.Config().Port)
		var version string
		if err := conn.QueryRow(ctx, "show server_version_num").Scan(&version); err != nil {
			return err
		}
		number, err := strconv.Atoi(version)
		s.prog.major = number / 10000
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("pgtest: connect to DB_TEST_DSN: %w", err)
	}
	return s, nil
}
