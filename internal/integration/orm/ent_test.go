package orm

import (
	"context"
	"errors"
	"testing"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/integration/orm/dropin"
	"github.com/pgprod/pgprod/internal/integration/orm/ent"
	"github.com/pgprod/pgprod/internal/integration/orm/ent/owner"
	"github.com/pgprod/pgprod/internal/integration/orm/ent/pet"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// entClient is ent for the tests that all libraries have in common.
func entClient(t testing.TB, dsn string) dropin.Client {
	t.Helper()
	db := dropin.Open(t, dsn)
	client := newEnt(t, entsql.OpenDB(dialect.Postgres, db))
	return dropin.Client{
		DB: db,
		Insert: func(ctx context.Context, name string) error {
			return client.Owner.Create().SetName(name).Exec(ctx)
		},
		Names: func(ctx context.Context) ([]string, error) {
			return client.Owner.Query().Order(ent.Asc(owner.FieldName)).Select(owner.FieldName).Strings(ctx)
		},
		InTx: func(ctx context.Context, f func(func(string) error) error) error {
			tx, err := client.Tx(ctx)
			if err != nil {
				return err
			}
			err = f(func(name string) error { return tx.Owner.Create().SetName(name).Exec(ctx) })
			if err != nil {
				_ = tx.Rollback() // the context may have ended it
				return err
			}
			return tx.Commit()
		},
	}
}

func newEnt(t testing.TB, driver dialect.Driver) *ent.Client {
	t.Helper()
	client := ent.NewClient(ent.Driver(driver))
	require.NoError(t, client.Schema.Create(t.Context()))
	return client
}

// openEnt opens an ent on a pool of one connection that the end of the test closes.
func openEnt(t testing.TB) *ent.Client {
	t.Helper()
	return newEnt(t, entsql.OpenDB(dialect.Postgres, dropin.Open(t, dropin.OneConn(pgtest.NewDatabase(t)))))
}

func TestEntOpensARegisteredName(t *testing.T) {
	pgprod.Register(dialect.Postgres)
	client, err := ent.Open(dialect.Postgres, pgtest.NewDatabase(t))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, client.Close()) })
	require.NoError(t, client.Schema.Create(t.Context()))
	require.NoError(t, client.Owner.Create().SetName("ann").Exec(t.Context()))
}

func TestEntMigratesTwice(t *testing.T) {
	client := openEnt(t)
	require.NoError(t, client.Owner.Create().SetName("ann").Exec(t.Context()))
	require.NoError(t, client.Schema.Create(t.Context()))
	require.Equal(t, 1, client.Owner.Query().CountX(t.Context()))
}

func TestEntReadsAndWritesEdges(t *testing.T) {
	client, ctx := openEnt(t), t.Context()
	born := time.Date(2000, 1, 2, 3, 4, 5, 0, time.UTC)
	ann, err := client.Owner.Create().SetName("ann").SetTags([]string{"a", "b"}).SetBorn(born).Save(ctx)
	require.NoError(t, err)
	require.NoError(t, client.Pet.CreateBulk(client.Pet.Create().SetName("rex").SetOwner(ann),
		client.Pet.Create().SetName("tom").SetOwner(ann)).Exec(ctx))

	read, err := client.Owner.Query().WithPets().Where(owner.HasPetsWith(pet.Name("rex"))).Only(ctx)
	require.NoError(t, err)
	require.Len(t, read.Edges.Pets, 2)
	require.Equal(t, []string{"a", "b"}, read.Tags)
	require.WithinDuration(t, born, read.Born, 0)
	names, err := ann.QueryPets().Order(pet.ByName()).Select(pet.FieldName).Strings(ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"rex", "tom"}, names)
}

func TestEntSeesAViolatedConstraint(t *testing.T) {
	client, ctx := openEnt(t), t.Context()
	require.NoError(t, client.Owner.Create().SetName("ann").Exec(ctx))
	err := client.Owner.Create().SetName("ann").Exec(ctx)
	require.True(t, ent.IsConstraintError(err), "%v", err)
	dropin.RequireState(t, err, "23505")

	err = client.Pet.Create().SetName("rex").SetOwnerID(99).Exec(ctx)
	require.True(t, ent.IsConstraintError(err), "%v", err)
	dropin.RequireState(t, err, "23503")
}

func TestEntRollsATransactionBack(t *testing.T) {
	client, ctx := openEnt(t), t.Context()
	tx, err := client.Tx(ctx)
	require.NoError(t, err)
	ann, err := tx.Owner.Create().SetName("ann").Save(ctx)
	require.NoError(t, err)
	require.NoError(t, tx.Pet.Create().SetName("rex").SetOwner(ann).Exec(ctx))
	var hooked error
	tx.OnRollback(func(next ent.Rollbacker) ent.Rollbacker {
		return ent.RollbackFunc(func(ctx context.Context, tx *ent.Tx) error {
			hooked = errors.New("seen")
			return next.Rollback(ctx, tx)
		})
	})
	require.NoError(t, tx.Rollback())
	require.Error(t, hooked)
	require.Zero(t, client.Owner.Query().CountX(ctx)+client.Pet.Query().CountX(ctx))
}
