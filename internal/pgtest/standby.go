package pgtest

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// InRecovery reports whether the server is a standby.
func (s *Server) InRecovery(ctx context.Context) (standby bool, err error) {
	err = s.withAdmin(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "select pg_is_in_recovery()").Scan(&standby)
	})
	return standby, err
}

// CatchUp waits until a standby has replayed all that its primary has committed so far.
func (s *Server) CatchUp(ctx context.Context) error {
	primary := s.config.StandbyOf
	if primary == nil {
		return errors.New("pgtest: CatchUp is for a standby")
	}
	target, err := primary.flush(ctx)
	if err != nil {
		return err
	}
	return s.withAdmin(ctx, func(conn *pgx.Conn) error {
		return poll(ctx, func() (bool, error) {
			var caughtUp bool
			err := conn.QueryRow(ctx,
				"select coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false)", target).Scan(&caughtUp)
			return caughtUp, err
		})
	})
}

// flush writes the log of all that was committed to disk, and returns the log's end. With synchronous_commit = off it may be
// in memory only, and isn't sent to standbys.
func (s *Server) flush(ctx context.Context) (lsn string, err error) {
	err = s.withAdmin(ctx, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "set synchronous_commit = local"); err != nil {
			return err
		}
		// This is a transaction that writes something, so that its commit flushes the log.
		if _, err := conn.Exec(ctx, "select pg_logical_emit_message(true, 'pgtest', '')"); err != nil {
			return err
		}
		return conn.QueryRow(ctx, "select pg_current_wal_flush_lsn()::text").Scan(&lsn)
	})
	return lsn, err
}

// Promote makes a standby a primary, and waits until it is one. The old primary isn't stopped.
func (s *Server) Promote(ctx context.Context) error {
	if s.external != nil {
		return ErrExternal
	}
	return s.withAdmin(ctx, func(conn *pgx.Conn) error {
		var done bool
		if err := conn.QueryRow(ctx, "select pg_promote(true, 60)").Scan(&done); err != nil {
			return err
		}
		if !done {
			return errors.New("promote: not done after a minute")
		}
		return nil
	})
}
