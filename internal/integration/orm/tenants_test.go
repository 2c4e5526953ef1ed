package orm

import (
	"context"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"gorm.io/gorm"

	"github.com/pgprod/pgprod/internal/integration/orm/dropin"
	"github.com/pgprod/pgprod/internal/integration/orm/ent/owner"
	"github.com/pgprod/pgprod/internal/integration/orm/ent/pet"
)

// What a library reads besides, to fill in associations, belongs to the tenant of the same context.

func TestGORMPreloadsWhatIsTheTenants(t *testing.T) {
	for name, open := range map[string]func(testing.TB, string) gorm.Dialector{"DriverName": gormByName, "Conn": gormByConn} {
		for _, prepare := range []bool{false, true} {
			dsn := dropin.TenantsDatabase(t)
			g := openGORM(t, open(t, dropin.OneConn(dsn)), &gorm.Config{PrepareStmt: prepare})
			require.NoError(t, g.AutoMigrate(&Author{}, &Post{}, &Tag{}))
			dropin.Divide(t, dsn)
			for _, tenant := range dropin.Tenants {
				require.NoError(t, g.WithContext(dropin.Tenant(t.Context(), tenant)).Create(&Author{Name: tenant,
					Posts: []Post{{Title: tenant, Tags: []Tag{{Name: tenant}}}}}).Error, name)
			}
			for _, tenant := range dropin.Tenants {
				ctx := dropin.Tenant(t.Context(), tenant)
				read := func(g *gorm.DB) error {
					var authors []Author
					require.NoError(t, g.Preload("Posts.Tags").Find(&authors).Error)
					require.Len(t, authors, 1)
					require.Equal(t, tenant, authors[0].Posts[0].Tags[0].Name)
					var posts []Post
					require.NoError(t, g.Joins("Author").Find(&posts).Error)
					require.Len(t, posts, 1)
					require.Equal(t, tenant, posts[0].Author.Name)
					return nil
				}
				require.NoError(t, read(g.WithContext(ctx)))
				require.NoError(t, g.WithContext(ctx).Transaction(read))
			}
			var count int64
			require.NoError(t, g.Model(&Author{}).Count(&count).Error)
			require.Zero(t, count, "without a tenant")
		}
	}
}

func TestBunReadsRelationsOfTheTenant(t *testing.T) {
	dsn := dropin.TenantsDatabase(t)
	db := openBun(t, dropin.OneConn(dsn))
	dropin.Divide(t, dsn)
	for _, tenant := range dropin.Tenants {
		require.NoError(t, db.RunInTx(dropin.Tenant(t.Context(), tenant), nil, func(ctx context.Context, tx bun.Tx) error {
			shelf := &Shelf{Name: tenant}
			if _, err := tx.NewInsert().Model(shelf).Exec(ctx); err != nil {
				return err
			}
			_, err := tx.NewInsert().Model(&Book{ShelfID: shelf.ID, Title: tenant}).Exec(ctx)
			return err
		}))
	}
	for _, tenant := range dropin.Tenants {
		var shelves []*Shelf
		require.NoError(t, db.NewSelect().Model(&shelves).Relation("Books").Scan(dropin.Tenant(t.Context(), tenant)))
		require.Len(t, shelves, 1)
		require.Len(t, shelves[0].Books, 1)
		require.Equal(t, tenant, shelves[0].Books[0].Title)
	}
	n, err := db.NewSelect().Model((*Book)(nil)).Count(t.Context())
	require.NoError(t, err)
	require.Zero(t, n, "without a tenant")
}

func TestEntReadsEdgesOfTheTenant(t *testing.T) {
	dsn := dropin.TenantsDatabase(t)
	client := newEnt(t, entsql.OpenDB(dialect.Postgres, dropin.Open(t, dropin.OneConn(dsn))))
	dropin.Divide(t, dsn)
	for _, tenant := range dropin.Tenants {
		ctx := dropin.Tenant(t.Context(), tenant)
		tx, err := client.Tx(ctx)
		require.NoError(t, err)
		one, err := tx.Owner.Create().SetName(tenant).Save(t.Context()) // it is the transaction's context that counts
		require.NoError(t, err)
		require.NoError(t, tx.Pet.Create().SetName(tenant).SetOwner(one).Exec(ctx))
		require.NoError(t, tx.Commit())
	}
	for _, tenant := range dropin.Tenants {
		ctx := dropin.Tenant(t.Context(), tenant)
		one, err := client.Owner.Query().WithPets().Where(owner.HasPets()).Only(ctx)
		require.NoError(t, err)
		require.Len(t, one.Edges.Pets, 1)
		require.Equal(t, tenant, one.Edges.Pets[0].Name)
		require.Equal(t, 1, client.Pet.Query().Where(pet.HasOwner()).CountX(ctx))
	}
	require.Zero(t, client.Owner.Query().CountX(t.Context())+client.Pet.Query().CountX(t.Context()), "without a tenant")
}
