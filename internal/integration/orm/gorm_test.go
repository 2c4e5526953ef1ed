package orm

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/integration/orm/dropin"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// Author, Post and Tag are GORM's models: an author has many posts, and posts and tags are many to many.
type Author struct {
	gorm.Model
	Name  string `gorm:"uniqueIndex"`
	Slug  string // set by a hook
	Loud  string `gorm:"-"` // set by another
	Posts []Post
}

type Post struct {
	ID       uint
	AuthorID uint
	Author   *Author
	Title    string
	Tags     []Tag `gorm:"many2many:post_tags"`
}

type Tag struct {
	ID   uint
	Name string `gorm:"unique"`
}

func (a *Author) BeforeCreate(tx *gorm.DB) error {
	if a.Name == "" {
		return errNameless
	}
	// A hook that asks the database, as hooks do, must use the same connection: the pool may have no other.
	return tx.Raw("select 'by-' || ?", a.Name).Scan(&a.Slug).Error
}

func (a *Author) AfterFind(*gorm.DB) error {
	a.Loud = a.Name + "!"
	return nil
}

var errNameless = errors.New("an author needs a name")

// gormByName and gormByConn are the two ways in which GORM takes a pool that is not of its own making.
func gormByName(_ testing.TB, dsn string) gorm.Dialector {
	return postgres.New(postgres.Config{DriverName: pgprod.DriverName, DSN: dsn})
}

func gormByConn(t testing.TB, dsn string) gorm.Dialector {
	t.Helper()
	db, err := sql.Open(pgprod.DriverName, dsn)
	require.NoError(t, err)
	return postgres.New(postgres.Config{Conn: db})
}

// openGORM opens a GORM that the end of the test closes.
func openGORM(t testing.TB, dialector gorm.Dialector, cfg *gorm.Config) *gorm.DB {
	t.Helper()
	cfg.Logger = logger.Discard // errors are looked at here
	g, err := gorm.Open(dialector, cfg)
	require.NoError(t, err)
	dropin.Adopt(t, poolOf(t, g))
	return g
}

func poolOf(t testing.TB, g *gorm.DB) *sql.DB {
	t.Helper()
	db, err := g.DB()
	require.NoError(t, err)
	return db
}

// eachGORM runs a test for both ways, with PrepareStmt on and off, on one connection and with tables made.
func eachGORM(t *testing.T, test func(t *testing.T, g *gorm.DB)) {
	t.Helper()
	for _, way := range []struct {
		name string
		open func(testing.TB, string) gorm.Dialector
	}{{"DriverName", gormByName}, {"Conn", gormByConn}} {
		for _, prepare := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, PrepareStmt %v", way.name, prepare), func(t *testing.T) {
				g := openGORM(t, way.open(t, dropin.OneConn(pgtest.NewDatabase(t))),
					&gorm.Config{PrepareStmt: prepare, TranslateError: true})
				require.NoError(t, g.AutoMigrate(&Author{}, &Post{}, &Tag{}))
				test(t, g)
			})
		}
	}
}

// gormClient is GORM for the tests that all libraries have in common.
func gormClient(dialector func(testing.TB, string) gorm.Dialector, prepare bool) func(testing.TB, string) dropin.Client {
	return func(t testing.TB, dsn string) dropin.Client {
		t.Helper()
		g := openGORM(t, dialector(t, dsn), &gorm.Config{PrepareStmt: prepare, PrepareStmtTTL: time.Minute})
		require.NoError(t, g.AutoMigrate(&Tag{}))
		return dropin.Client{
			DB: poolOf(t, g),
			Insert: func(ctx context.Context, name string) error {
				return g.WithContext(ctx).Create(&Tag{Name: name}).Error
			},
			Names: func(ctx context.Context) (names []string, err error) {
				return names, g.WithContext(ctx).Model(&Tag{}).Order("name").Pluck("name", &names).Error
			},
			InTx: func(ctx context.Context, f func(func(string) error) error) error {
				return g.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
					return f(func(name string) error { return tx.Create(&Tag{Name: name}).Error })
				})
			},
		}
	}
}

func TestGORMMigratesATableThatAlreadyExists(t *testing.T) {
	eachGORM(t, func(t *testing.T, g *gorm.DB) {
		require.NoError(t, g.AutoMigrate(&Author{}, &Post{}, &Tag{}))
		require.True(t, g.Migrator().HasTable("post_tags"))
		require.True(t, g.Migrator().HasIndex(&Author{}, "Name"))
		columns, err := g.Migrator().ColumnTypes(&Author{})
		require.NoError(t, err)
		require.Len(t, columns, 6)
	})
}

func TestGORMSavesAndPreloadsAssociations(t *testing.T) {
	eachGORM(t, func(t *testing.T, g *gorm.DB) {
		shared := Tag{Name: "shared"}
		require.NoError(t, g.Create(&shared).Error)
		require.NoError(t, g.Create(&Author{Name: "ann", Posts: []Post{
			{Title: "one", Tags: []Tag{shared, {Name: "own"}}}, {Title: "two", Tags: []Tag{shared}},
		}}).Error)

		var ann Author
		require.NoError(t, g.Preload("Posts", func(tx *gorm.DB) *gorm.DB { return tx.Order("title") }).
			Preload("Posts.Tags").First(&ann, "name = ?", "ann").Error)
		require.Len(t, ann.Posts, 2)
		require.Len(t, ann.Posts[0].Tags, 2)
		require.Equal(t, []Tag{shared}, ann.Posts[1].Tags)

		var two Post
		require.NoError(t, g.Joins("Author").First(&two, "title = ?", "two").Error)
		require.Equal(t, "ann", two.Author.Name)

		require.NoError(t, g.Model(&two).Association("Tags").Clear())
		require.Zero(t, g.Model(&two).Association("Tags").Count())
		require.EqualValues(t, 2, g.Model(&ann.Posts[0]).Association("Tags").Count())
	})
}

func TestGORMRunsHooks(t *testing.T) {
	eachGORM(t, func(t *testing.T, g *gorm.DB) {
		require.ErrorIs(t, g.Create(&Author{}).Error, errNameless)
		require.NoError(t, g.Create(&Author{Name: "ann"}).Error)
		var ann Author
		require.NoError(t, g.First(&ann).Error)
		require.Equal(t, "by-ann", ann.Slug)
		require.Equal(t, "ann!", ann.Loud)
	})
}

func TestGORMInsertsAndReadsInBatches(t *testing.T) {
	eachGORM(t, func(t *testing.T, g *gorm.DB) {
		tags := make([]Tag, 250)
		for i := range tags {
			tags[i].Name = fmt.Sprint(i)
		}
		require.NoError(t, g.CreateInBatches(tags, 100).Error)
		require.NotZero(t, tags[249].ID)

		var batch []Tag
		read := 0
		found := g.FindInBatches(&batch, 100, func(tx *gorm.DB, _ int) error {
			read += len(batch)
			return tx.Exec("update tags set name = name || '!' where id = ?", batch[0].ID).Error
		})
		require.NoError(t, found.Error)
		require.Equal(t, 250, read)

		rows, err := g.Model(&Tag{}).Where("name like ?", "%!").Rows()
		require.NoError(t, err)
		n := 0
		for ; rows.Next(); n++ {
			var tag Tag
			require.NoError(t, g.ScanRows(rows, &tag))
		}
		require.NoError(t, rows.Close())
		require.Equal(t, 3, n)
	})
}
