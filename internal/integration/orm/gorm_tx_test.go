package orm

import (
	"crypto/rand"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/pgprod/pgprod/internal/integration/orm/dropin"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// GORM looks at the error's own type, without errors.As: what a driver wraps it doesn't translate.
func TestGORMTranslatesADuplicateKey(t *testing.T) {
	eachGORM(t, func(t *testing.T, g *gorm.DB) {
		require.NoError(t, g.Create(&Tag{Name: "one"}).Error)
		err := g.Create(&Tag{Name: "one"}).Error
		require.ErrorIs(t, err, gorm.ErrDuplicatedKey)
		dropin.RequireState(t, err, "23505")
	})
}

func TestGORMTranslatesAViolatedForeignKey(t *testing.T) {
	eachGORM(t, func(t *testing.T, g *gorm.DB) {
		err := g.Create(&Post{AuthorID: 99}).Error
		require.ErrorIs(t, err, gorm.ErrForeignKeyViolated)
		dropin.RequireState(t, err, "23503")
	})
}

func TestGORMTranslatesAnErrorOfATransaction(t *testing.T) {
	eachGORM(t, func(t *testing.T, g *gorm.DB) {
		err := g.Transaction(func(tx *gorm.DB) error {
			return tx.Create([]Tag{{Name: "one"}, {Name: "one"}}).Error
		})
		require.ErrorIs(t, err, gorm.ErrDuplicatedKey)
		require.ErrorIs(t, g.First(&Tag{}).Error, gorm.ErrRecordNotFound)
	})
}

func TestGORMRollsANestedTransactionBackToItsSavepoint(t *testing.T) {
	eachGORM(t, func(t *testing.T, g *gorm.DB) {
		changedMind := errors.New("changed my mind")
		require.NoError(t, g.Transaction(func(tx *gorm.DB) error {
			require.NoError(t, tx.Create(&Tag{Name: "outer"}).Error)
			require.ErrorIs(t, tx.Transaction(func(tx *gorm.DB) error {
				require.NoError(t, tx.Create(&Tag{Name: "undone"}).Error)
				return changedMind
			}), changedMind)
			require.ErrorIs(t, tx.Transaction(func(tx *gorm.DB) error { // the server's refusal is undone as well
				return tx.Create(&Tag{Name: "outer"}).Error
			}), gorm.ErrDuplicatedKey)
			return tx.Transaction(func(tx *gorm.DB) error { return tx.Create(&Tag{Name: "inner"}).Error })
		}))
		requireTags(t, g, "inner", "outer")
	})
}

func TestGORMRollsBackToASavepointByHand(t *testing.T) {
	eachGORM(t, func(t *testing.T, g *gorm.DB) {
		tx := g.Begin()
		require.NoError(t, tx.Create(&Tag{Name: "kept"}).Error)
		require.NoError(t, tx.SavePoint("here").Error)
		require.NoError(t, tx.Create(&Tag{Name: "undone"}).Error)
		require.NoError(t, tx.RollbackTo("here").Error)
		require.NoError(t, tx.Commit().Error)
		requireTags(t, g, "kept")
	})
}

func TestGORMRollsBackAPanic(t *testing.T) {
	eachGORM(t, func(t *testing.T, g *gorm.DB) {
		require.PanicsWithValue(t, "oops", func() {
			_ = g.Transaction(func(tx *gorm.DB) error {
				require.NoError(t, tx.Create(&Tag{Name: "undone"}).Error)
				panic("oops")
			})
		})
		requireTags(t, g)
	})
}

func requireTags(t testing.TB, g *gorm.DB, want ...string) {
	t.Helper()
	names := []string{}
	require.NoError(t, g.Model(&Tag{}).Order("name").Pluck("name", &names).Error)
	require.ElementsMatch(t, want, names)
}

// GORM wraps each write in a transaction of its own, whose BEGIN takes no round trip.
func TestGORMCreatesARowInTwoRoundTripsAndPgxInThree(t *testing.T) {
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	for begin, trips := range map[string]int{"lazy": 2, "eager": 3} {
		g := openGORM(t, gormByName(t, pgtest.With(dropin.OneConn(proxy.DSN()), "begin", begin)), &gorm.Config{})
		require.Equal(t, trips, tripsOfCreate(t, g, proxy), begin)
	}
	g, err := gorm.Open(postgres.Open(proxy.DSN()), &gorm.Config{})
	require.NoError(t, err)
	require.Equal(t, 3, tripsOfCreate(t, g, proxy), "pgx")
	require.NoError(t, poolOf(t, g).Close())
}

// tripsOfCreate returns how many round trips gorm.Create takes once its statements are prepared.
func tripsOfCreate(t testing.TB, g *gorm.DB, proxy *faultproxy.Proxy) int {
	t.Helper()
	require.NoError(t, g.AutoMigrate(&Tag{}))
	require.NoError(t, g.Create(&Tag{Name: rand.Text()}).Error)
	proxy.Reset()
	require.NoError(t, g.Create(&Tag{Name: rand.Text()}).Error)
	return proxy.Stats().RoundTrips
}
