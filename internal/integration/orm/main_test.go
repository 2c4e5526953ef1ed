package orm

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/pgprod/pgprod/internal/integration/orm/dropin"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// Two goroutines of GORM's run for ever: the ticker of its Prometheus plugin, and what cleans its cache of statements
// (PrepareStmt) up, one for each gorm.Open.
func TestMain(m *testing.M) {
	os.Exit(pgtest.Main(m,
		goleak.IgnoreAnyFunction("gorm.io/plugin/prometheus.(*Prometheus).Initialize.func1.1"),
		goleak.IgnoreAnyFunction("gorm.io/gorm/internal/lru.NewLRU[...].func1"),
	))
}

func TestEveryLibraryDropsIn(t *testing.T) {
	for _, library := range []struct {
		name string
		open func(testing.TB, string) dropin.Client
	}{
		{"GORM by DriverName", gormClient(gormByName, false)},
		{"GORM by Conn", gormClient(gormByConn, false)},
		{"GORM by DriverName, PrepareStmt", gormClient(gormByName, true)},
		{"GORM by Conn, PrepareStmt", gormClient(gormByConn, true)},
		{"sqlx by a registered name", sqlxClient(sqlxRegistered)},
		{"sqlx by BindDriver", sqlxClient(sqlxBound)},
		{"sqlx by NewDb", sqlxClient(sqlxWrapped)},
		{"bun", bunClient},
		{"ent", entClient},
	} {
		t.Run(library.name, func(t *testing.T) { dropin.Check(t, library.open) })
	}
}
