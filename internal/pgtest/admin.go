package pgtest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// adminApplication is the application_name of our own connections. TerminateAll doesn't end them, and Backends doesn't list
// them.
const adminApplication = "pgtest"

// Admin opens a connection as a superuser to the database postgres, through the unix socket and without a password, whatever
// Config.HBA says. Close it. On an external server it is a connection by DB_TEST_DSN.
func (s *Server) Admin(ctx context.Context) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(s.adminDSN())
	if err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	config.RuntimeParams["application_name"] = adminApplication
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	return conn, nil
}

func (s *Server) adminDSN() string {
	if s.external != nil {
		return s.external.String()
	}
	return fmt.Sprintf("host='%s' port=%d user=%s dbname=postgres sslmode=disable", s.home.socket, s.port, adminUser)
}

// Exec runs SQL on a connection of Admin.
func (s *Server) Exec(ctx context.Context, sql string, args ...any) error {
	return s.withAdmin(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql, args...)
		return err
	})
}

// withAdmin calls f with a connection of Admin, and closes it.
func (s *Server) withAdmin(ctx context.Context, f func(*pgx.Conn) error) error {
	conn, err := s.Admin(ctx)
	if err != nil {
		return err
	}
	err = f(conn)
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	return nil
}

// A Backend is a client's connection as pg_stat_activity shows it.
type Backend struct {
	PID             uint32
	State           string // active, idle, idle in transaction, …
	Query           string // the current or last statement
	ApplicationName string
	Database        string
}

// String describes the backend, for error messages of tests.
func (b Backend) String() string {
	return fmt.Sprintf("pid %d, database %s, application %q, %s: %s", b.PID, b.Database, b.ApplicationName, b.State, b.Query)
}

// Backends lists the clients' connections whose application_name or database is one of names; without names, all.
func (s *Server) Backends(ctx context.Context, names ...string) (backends []Backend, err error) {
	err = s.withAdmin(ctx, func(conn *pgx.Conn) error {
		backends, err = listBackends(ctx, conn, names)
		return err
	})
	return backends, err
}

// listBackends is Backends on a connection of Admin.
func listBackends(ctx context.Context, conn *pgx.Conn, names []string) ([]Backend, error) {
	rows, err := conn.Query(ctx, `
		select pid, coalesce(state, ''), coalesce(query, ''), coalesce(application_name, ''), coalesce(datname, '')
		from pg_stat_activity
		where backend_type = 'client backend' and application_name <> $1
			and (cardinality($2::text[]) = 0 or application_name = any ($2) or datname = any ($2))
		order by pid`, adminApplication, append([]string{}, names...))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Backend])
}

// Terminate ends backends with pg_terminate_backend and waits until they are gone.
func (s *Server) Terminate(ctx context.Context, pids ...uint32) error {
	return s.withAdmin(ctx, func(conn *pgx.Conn) error { return terminate(ctx, conn, pids) })
}

// TerminateAll ends the backends whose application_name or database is one of names, without names those of all clients, and
// waits until they are gone. On an external server names must be given, since it may have other clients.
func (s *Server) TerminateAll(ctx context.Context, names ...string) error {
	if s.external != nil && len(names) == 0 {
		return ErrExternal
	}
	return s.withAdmin(ctx, func(conn *pgx.Conn) error {
		backends, err := listBackends(ctx, conn, names)
		if err != nil {
			return err
		}
		var pids []uint32
		for _, b := range backends {
			pids = append(pids, b.PID)
		}
		return terminate(ctx, conn, pids)
	})
}

// terminate is Terminate on a connection of Admin.
func terminate(ctx context.Context, conn *pgx.Conn, pids []uint32) error {
	ids := make([]int32, len(pids))
	for i, pid := range pids {
		ids[i] = int32(pid)
	}
	if _, err := conn.Exec(ctx, "select pg_terminate_backend(pid) from unnest($1::int[]) pid", ids); err != nil {
		return err
	}
	err := poll(ctx, func() (bool, error) {
		var left int
		err := conn.QueryRow(ctx, "select count(*) from pg_stat_activity where pid = any ($1)", ids).Scan(&left)
		return left == 0, err
	})
	if err != nil {
		return fmt.Errorf("wait for the end of backends %s: %w", strings.Trim(fmt.Sprint(pids), "[]"), err)
	}
	return nil
}

// SetPassword changes the password of the user postgres. The DSNs that the Server returns from then on have it. Whether the
// server asks for it depends on Config.HBA, or on Config.Password.
func (s *Server) SetPassword(ctx context.Context, password string) error {
	if s.external != nil {
		return ErrExternal
	}
	err := s.withAdmin(ctx, func(conn *pgx.Conn) error {
		var statement string // ALTER ROLE takes no parameters
		err := conn.QueryRow(ctx, "select format('alter role postgres password %L', $1::text)", password).Scan(&statement)
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, statement)
		return err
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.password = password
	return nil
}
