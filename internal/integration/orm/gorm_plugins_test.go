package orm

import (
	"database/sql"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/plugin/dbresolver"
	gormprometheus "gorm.io/plugin/prometheus"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/integration/orm/dropin"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// Two databases stand for a primary and its replica, so that it shows which of them was asked.
func TestGORMsResolverReadsFromASecondPool(t *testing.T) {
	for _, one := range []struct {
		name    string
		open    func(testing.TB, string) gorm.Dialector
		prepare bool
	}{
		{"DriverName", gormByName, false}, {"Conn", gormByConn, false}, {"PrepareStmt", gormByConn, true},
	} {
		t.Run(one.name, func(t *testing.T) {
			primary, replica := pgtest.NewDatabase(t), pgtest.NewDatabase(t)
			for _, dsn := range []string{primary, replica} {
				require.NoError(t, openGORM(t, one.open(t, dsn), &gorm.Config{}).AutoMigrate(&Tag{}))
			}
			require.NoError(t, openGORM(t, one.open(t, replica), &gorm.Config{}).Create(&Tag{Name: "replica"}).Error)

			reader, writer := one.name+" reader", one.name+" writer" // pgprod makes names unique in the process
			g := openGORM(t, one.open(t, pgtest.With(primary, "pool_name", writer)), &gorm.Config{PrepareStmt: one.prepare})
			resolver := dbresolver.Register(dbresolver.Config{
				Replicas: []gorm.Dialector{one.open(t, pgtest.With(replica, "pool_name", reader))},
			})
			require.NoError(t, g.Use(resolver))
			require.Equal(t, []string{writer, reader}, poolNames(t, g, resolver))

			require.NoError(t, g.Create(&Tag{Name: "primary"}).Error)
			requireTags(t, g, "replica")
			requireTags(t, g.Clauses(dbresolver.Write).Session(&gorm.Session{}), "primary")
			require.NoError(t, g.Transaction(func(tx *gorm.DB) error {
				requireTags(t, tx, "primary")
				return tx.Create(&Tag{Name: "second"}).Error
			}))
			requireTags(t, g, "replica")
		})
	}
}

// poolNames asks Status for the names of the resolver's pools, and adopts those that are not g's own.
func poolNames(t testing.TB, g *gorm.DB, resolver *dbresolver.DBResolver) (names []string) {
	t.Helper()
	require.NoError(t, resolver.Call(func(pool gorm.ConnPool) error {
		db := pool.(*sql.DB)
		if db != poolOf(t, g) {
			dropin.Adopt(t, db)
		}
		status, err := pgprod.Status(db)
		names = append(names, status.PoolName)
		return err
	}))
	return names
}

// The plugin shows the statistics of the *sql.DB that it has: sessions, which are not limited and mostly hold no
// connection. What the pool does is in pgprod's own metrics and in Status.
func TestGORMsPrometheusPluginShowsSessionsAndNotConnections(t *testing.T) {
	g := openGORM(t, gormByName(t, pgtest.NewDatabase(t)), &gorm.Config{})
	plugin := gormprometheus.New(gormprometheus.Config{RefreshInterval: 1})
	require.NoError(t, g.Use(plugin))
	registry := prometheus.NewRegistry() // the default one, which has them too, keeps those of an earlier run
	registry.MustRegister(plugin.DBStats.Collectors()...)
	idle, err := poolOf(t, g).Conn(t.Context()) // a session without a connection
	require.NoError(t, err)
	defer idle.Close()
	busy := g.Begin()
	require.NoError(t, busy.Error)
	defer busy.Rollback()

	pgtest.Eventually(t, time.Minute, func() bool { return gauge(t, registry, "gorm_dbstats_in_use") == 2 }, "in_use is not 2")
	status, err := pgprod.Status(poolOf(t, g))
	require.NoError(t, err)
	require.Equal(t, 1, status.CheckedOut)
	require.Zero(t, gauge(t, registry, "gorm_dbstats_max_open_connections"), "without a limit, though the pool has one")
}

// gauge is the value of a metric without labels.
func gauge(t testing.TB, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatal("no metric " + name)
	return 0
}
