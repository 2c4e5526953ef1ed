package pgtest

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// baseBackup fills the data directory with a copy of the primary's, for a standby that follows it.
// It does so with functions of the server, since not every installation has the program pg_basebackup.
func (s *Server) baseBackup(ctx context.Context, primary *Server) error {
	if primary.external != nil {
		return ErrExternal
	}
	// One connection from beginning to end, since the backup ends with the connection that has begun it.
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

// backupFunctions returns the statements before and after the copy, which have other names in old versions. The checkpoint
// is made at once. They don't wait for an archive, since the standby reads the log from its primary.
func backupFunctions(major int) (start, stop string) {
	if major < 15 {
		return "select pg_start_backup('pgtest', true, false)", "select labelfile from pg_stop_backup(false, false)"
	}
	return "select pg_backup_start('pgtest', true)", "select labelfile from pg_backup_stop(false)"
}

// leftOutOfBackups reports whether a path below the data directory is of use only to the running primary. These are what
// pg_basebackup leaves out, and the log, which the standby reads from its primary.
func leftOutOfBackups(path string) bool {
	emptied := []string{
		"pg_wal", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans",
	}
	files := []string{"postmaster.pid", "postmaster.opts", "pg_internal.init"}
	name := filepath.Base(path)
	return slices.Contains(emptied, filepath.Dir(path)) || slices.Contains(files, name) || strings.HasPrefix(name, "pgsql_tmp")
}

// followPrimary returns the setting by which a standby reads the log from its primary: through the socket or, if that has an
// address of its own, by the network, which may fail. A primary has none.
func (s *Server) followPrimary() []string {
	primary := s.config.StandbyOf
	if primary == nil {
		return nil
	}
	host := primary.home.socket
	if primary.config.Address != "" {
		host = primary.config.Address
	}
	conninfo := fmt.Sprintf("host='%s' port=%d user=%s sslmode=disable", host, primary.port, adminUser)
	return []string{"primary_conninfo = " + quoteSetting(conninfo)}
}
