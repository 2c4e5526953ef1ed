package orm

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// What AutoMigrate finds, it finds by SELECT * FROM the table. pgx prepares that once, and when a column has been added
// the server refuses it once on each connection: "cached plan must not change result type". For pgx GORM has ways around
// that, by the driver's name and by closing its statements; pgprod asks the server again.
func TestGORMMigratesAColumnAfterTheOther(t *testing.T) {
	byPgx := func(_ testing.TB, dsn string) gorm.Dialector {
		return postgres.New(postgres.Config{DriverName: "pgx", DSN: dsn})
	}
	for _, one := range []struct {
		name    string
		open    func(testing.TB, string) gorm.Dialector
		prepare bool
		mode    string // default_query_exec_mode
	}{
		{name: "Conn", open: gormByConn},
		{name: "Conn, PrepareStmt", open: gormByConn, prepare: true},
		{name: "Conn, PrepareStmt, exec", open: gormByConn, prepare: true, mode: "exec"},
		{name: "DriverName", open: gormByName},
		{name: "DriverName, exec", open: gormByName, mode: "exec"},
		{name: "DriverName, simple_protocol", open: gormByName, mode: "simple_protocol"},
		{name: "DriverName, PrepareStmt, exec", open: gormByName, prepare: true, mode: "exec"},
		{name: "pgx", open: byPgx},
		{name: "pgx, PrepareStmt", open: byPgx, prepare: true},
	} {
		t.Run(one.name, func(t *testing.T) {
			dsn := pgtest.NewDatabase(t)
			if one.mode != "" {
				dsn = pgtest.With(dsn, "default_query_exec_mode", one.mode)
			}
			g, err := gorm.Open(one.open(t, dsn), &gorm.Config{PrepareStmt: one.prepare, Logger: logger.Discard})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, poolOf(t, g).Close()) })
			poolOf(t, g).SetMaxOpenConns(1) // the plan is a connection's own

			type v1 struct{ ID, A int }
			type v2 struct{ ID, A, B int }
			type v3 struct{ ID, A, B, C int }
			migrate := func(version any) error { return g.Table("grown").AutoMigrate(version) }
			require.NoError(t, migrate(&v1{}))
			require.NoError(t, migrate(&v2{}))
			require.NoError(t, migrate(&v3{}))
			require.NoError(t, g.Table("grown").Create(&v3{ID: 1, C: 2}).Error)
		})
	}
}
