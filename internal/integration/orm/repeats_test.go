package orm

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/integration/orm/dropin"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// repetitions are the findings of a pool, as its log has them. It is safe for concurrent use.
type repetitions struct {
	mu  sync.Mutex // guards all
	all []map[string]string
}

// Enabled implements slog.Handler.
func (r *repetitions) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (r *repetitions) Handle(_ context.Context, record slog.Record) error {
	if !strings.Contains(record.Message, "the same statement ran") {
		return nil
	}
	found := map[string]string{}
	record.Attrs(func(a slog.Attr) bool {
		found[a.Key] = fmt.Sprint(a.Value)
		return true
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, found)
	return nil
}

// WithAttrs implements slog.Handler.
func (r *repetitions) WithAttrs([]slog.Attr) slog.Handler { return r }

// WithGroup implements slog.Handler.
func (r *repetitions) WithGroup(string) slog.Handler { return r }

// list returns what was found so far.
func (r *repetitions) list() []map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]map[string]string(nil), r.all...)
}

// developing opens a pool as a developer has it.
func developing(t *testing.T) (*sql.DB, *repetitions) {
	t.Helper()
	var found repetitions
	db, err := pgprod.Open(pgtest.NewDatabase(t), pgprod.WithEnvironment(pgprod.Development), pgprod.WithPreflight(false),
		pgprod.WithLogger(slog.New(&found)))
	require.NoError(t, err)
	dropin.Adopt(t, db)
	return db, &found
}

// untilFound calls f, which runs the same statement in a loop, until that is found. On a busy machine a loop may pause.
func (r *repetitions) untilFound(t *testing.T, f func()) map[string]string {
	t.Helper()
	pgtest.Eventually(t, time.Minute, func() bool {
		f()
		return len(r.list()) > 0
	}, "nothing was found")
	return r.list()[0]
}

// gormOf returns a GORM that uses db, with twelve authors of two posts each.
func gormOf(t *testing.T, db *sql.DB) *gorm.DB {
	t.Helper()
	g := openGORM(t, postgres.New(postgres.Config{Conn: db}), &gorm.Config{})
	require.NoError(t, g.AutoMigrate(&Author{}, &Post{}, &Tag{}))
	authors := make([]Author, 12)
	for i := range authors {
		authors[i] = Author{Name: fmt.Sprint("author ", i), Posts: []Post{{Title: "one"}, {Title: "two"}}}
	}
	require.NoError(t, g.Session(&gorm.Session{SkipHooks: true}).Create(&authors).Error)
	return g
}

// postsOfEach loads the posts of each author by itself.
func postsOfEach(t *testing.T, g *gorm.DB) {
	var authors []Author
	require.NoError(t, g.Find(&authors).Error)
	for i := range authors {
		require.NoError(t, g.Model(&authors[i]).Association("Posts").Find(&authors[i].Posts))
		require.Len(t, authors[i].Posts, 2)
	}
}

// postsOfAll loads the posts of all authors at once.
func postsOfAll(t *testing.T, g *gorm.DB) {
	var authors []Author
	require.NoError(t, g.Preload("Posts").Find(&authors).Error)
	require.Len(t, authors, 12)
	require.Len(t, authors[11].Posts, 2)
}

func TestGORMWithoutPreloadIsOverTheBudgetAndWithItIsNot(t *testing.T) {
	db, found := developing(t)
	g := gormOf(t, db)
	ctx, count := pgprod.ContextCounting(t.Context())
	postsOfEach(t, g.WithContext(ctx))
	require.Equal(t, map[string]int{`SELECT "authors"`: 1, `SELECT "posts"`: 12}, count.BySummary())
	count.Reset()
	before := len(found.list())
	postsOfAll(t, g.WithContext(ctx))
	require.Equal(t, map[string]int{`SELECT "authors"`: 1, `SELECT "posts"`: 1}, count.BySummary(), count)
	require.Len(t, found.list(), before)
}

func TestGORMWithoutPreloadIsFoundWithTheLineThatCalls(t *testing.T) {
	for name, ctx := range map[string]context.Context{"with a context": t.Context(), "without": context.Background()} {
		t.Run(name, func(t *testing.T) {
			db, all := developing(t)
			g := gormOf(t, db)
			before := len(all.list())
			pgtest.Eventually(t, time.Minute, func() bool {
				postsOfAll(t, g.WithContext(ctx))
				postsOfEach(t, g.WithContext(ctx))
				return len(all.list()) > before
			}, "nothing was found")
			found := all.list()[before]
			assert.Equal(t, `SELECT "posts"`, found["db.query.summary"])
			assert.Contains(t, found["caller"], "orm.postsOfEach repeats_test.go:")
			assert.NotContains(t, found["stack"], "gorm.io")
		})
	}
}

func TestGORMCreatingRowByRowIsFound(t *testing.T) {
	db, all := developing(t)
	g := gormOf(t, db)
	n := 0
	found := all.untilFound(t, func() {
		for range 20 { // each in a transaction of its own, as GORM does
			n++
			require.NoError(t, g.WithContext(t.Context()).Create(&Tag{Name: fmt.Sprint(n)}).Error)
		}
	})
	assert.Equal(t, `INSERT "tags"`, found["db.query.summary"])
	assert.Contains(t, found["instead"], "CreateInBatches")
	assert.Contains(t, found["caller"], "orm.TestGORMCreatingRowByRowIsFound")
}

// namesOf asks for the name of each place by itself.
func namesOf(t *testing.T, db *sqlx.DB, ctx context.Context) {
	var ids []int
	require.NoError(t, db.SelectContext(ctx, &ids, "SELECT id FROM places"))
	for _, id := range ids {
		var p place
		require.NoError(t, db.GetContext(ctx, &p, "SELECT * FROM places WHERE id = $1", id))
	}
}

func TestSQLXIsCountedAndALoopOfItIsFound(t *testing.T) {
	pool, all := developing(t)
	db := sqlx.NewDb(pool, "postgres")
	db.MustExec(placesTable)
	ctx, count := pgprod.ContextCounting(t.Context())
	tx := db.MustBeginTx(ctx, nil)
	tx.MustExec("INSERT INTO places (name) SELECT n FROM generate_series(1, 12) n") // has no context but the transaction's
	require.NoError(t, tx.Commit())
	found := all.untilFound(t, func() {
		count.Reset()
		namesOf(t, db, ctx)
	})
	assert.Equal(t, map[string]int{"SELECT places": 13}, count.BySummary())
	assert.Equal(t, "SELECT places", found["db.query.summary"])
	assert.Contains(t, found["caller"], "orm.namesOf repeats_test.go:")

	count.Reset()
	_, err := db.NamedExecContext(ctx, "INSERT INTO places (name) VALUES (:name)", []place{{Name: "a"}, {Name: "b"}})
	require.NoError(t, err)
	assert.Equal(t, "1 statement: 1 × INSERT places", count.String())
}

// The code that ent generates is part of the program, so that its line is what has called; the loop is further up in the
// stack.
func TestALoopOfEntIsFound(t *testing.T) {
	pool, all := developing(t)
	client := newEnt(t, entsql.OpenDB(dialect.Postgres, pool))
	for n := range 12 {
		client.Owner.Create().SetName(fmt.Sprint(n)).SaveX(t.Context())
	}
	ctx, count := pgprod.ContextCounting(t.Context())
	found := map[string]string{}
	pgtest.Eventually(t, time.Minute, func() bool {
		count.Reset()
		for _, o := range client.Owner.Query().AllX(ctx) {
			o.QueryPets().AllX(ctx)
		}
		for _, one := range all.list() {
			if strings.Contains(one["db.query.summary"], "pets") {
				found = one
			}
		}
		return len(found) > 0
	}, "nothing was found")
	assert.Equal(t, 13, count.Total())
	assert.Contains(t, found["stack"], "TestALoopOfEntIsFound")

	count.Reset()
	client.Owner.Query().WithPets().AllX(ctx)
	assert.Equal(t, 2, count.Total(), count)
}
