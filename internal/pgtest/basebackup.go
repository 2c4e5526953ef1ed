package pgtest

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// baseBackup fills the data directory with a copy of the primary's that is set up to follow it, through its unix socket.
// It uses the server's functions, as not every installation has the program pg_basebackup.
func (s *Server) baseBackup(ctx context.Context, primary *Server) error {
	if primary.external != nil {
		return ErrExternal
	}
	// The backup mode lasts as long as this connection, which must not be another one at the end.
	err := primary.withAdmin(ctx, func(conn *pgx.Conn) error {
		start, stop := backupFunctions(primary.prog.major)
		if _, err := conn.Exec(ctx, start); err != nil {
			return err
		}
		if err := copyLiveTree(primary.home.data(), s.home.data(), s.account, leftOutOfBackups); err != nil {
			return err
		}
		var label string
		if err := conn.QueryRow(ctx, stop).Scan(&label); err != nil {
			return err
		}
		return s.account.writeFile(filepath.Join(s.home.data(), "backup_label"), []byte(label))
	})
	if err != nil {
		return err
	}
	return s.account.writeFile(filepath.Join(s.home.data(), "standby.signal"), nil)
}

// backupFunctions are the statements around the copy, under the names that the major version has for them. The checkpoint
// is made at once; no archive is waited for, since the standby reads the log from its primary.
func backupFunctions(major int) (start, stop string) {
	if major < 15 {
		return "select pg_start_backup('pgtest', true, false)", "select labelfile from pg_stop_backup(false, false)"
	}
	return "select pg_backup_start('pgtest', true)", "select labelfile from pg_backup_stop(false)"
}

// leftOutOfBackups says whether a path below the data directory belongs to the running primary alone. They are those that
// pg_basebackup leaves out, and the log, which the standby reads from its primary instead.
func leftOutOfBackups(path string) bool {
	emptied := []string{
		"pg_wal", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans",
	}
	files := []string{"postmaster.pid", "postmaster.opts", "pg_internal.init"}
	name := filepath.Base(path)
	return slices.Contains(emptied, filepath.Dir(path)) || slices.Contains(files, name) || strings.HasPrefix(name, "pgsql_tmp")
}

// followPrimary is the setting that makes a standby read the log from its primary; none for a primary.
func (s *Server) followPrimary() []string {
	primary := s.config.StandbyOf
	if primary == nil {
		return nil
	}
	conninfo := fmt.Sprintf("host='%s' port=%d user=%s sslmode=disable", primary.home.socket, primary.port, adminUser)
	return []string{"primary_conninfo = " + quoteSetting(conninfo)}
}
