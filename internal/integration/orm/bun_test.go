package orm

import (
	"context"
	"database/sql"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/pgprod/pgprod/internal/integration/orm/dropin"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// Shelf and Book are bun's models: a shelf has many books.
type Shelf struct {
	ID    int64   `bun:",pk,autoincrement"`
	Name  string  `bun:",unique"`
	Books []*Book `bun:"rel:has-many,join:id=shelf_id"`
}

type Book struct {
	ID      int64 `bun:",pk,autoincrement"`
	ShelfID int64
	Shelf   *Shelf `bun:"rel:belongs-to,join:shelf_id=id"`
	Title   string
	Tags    []string          `bun:",array"`
	Pages   []int64           `bun:",array"`
	Meta    map[string]string `bun:"type:jsonb"`
}

// openBun opens a bun, with its tables made, that the end of the test closes.
func openBun(t testing.TB, dsn string) *bun.DB {
	t.Helper()
	db := bun.NewDB(dropin.Open(t, dsn), pgdialect.New())
	_, err := db.NewCreateTable().Model((*Shelf)(nil)).Exec(t.Context())
	require.NoError(t, err)
	_, err = db.NewCreateTable().Model((*Book)(nil)).WithForeignKeys().IfNotExists().Exec(t.Context())
	require.NoError(t, err)
	return db
}

// bunClient is bun for the tests that all libraries have in common.
func bunClient(t testing.TB, dsn string) dropin.Client {
	t.Helper()
	db := openBun(t, dsn)
	insert := func(ctx context.Context, db bun.IDB, name string) error {
		_, err := db.NewInsert().Model(&Shelf{Name: name}).Exec(ctx)
		return err
	}
	return dropin.Client{
		DB:     db.DB,
		Insert: func(ctx context.Context, name string) error { return insert(ctx, db, name) },
		Names: func(ctx context.Context) (names []string, err error) {
			return names, db.NewSelect().Model((*Shelf)(nil)).Column("name").Order("name").Scan(ctx, &names)
		},
		InTx: func(ctx context.Context, f func(func(string) error) error) error {
			return db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
				return f(func(name string) error { return insert(ctx, tx, name) })
			})
		},
	}
}

func TestBunReadsRelations(t *testing.T) {
	db := openBun(t, dropin.OneConn(pgtest.NewDatabase(t)))
	shelf := &Shelf{Name: "top"}
	_, err := db.NewInsert().Model(shelf).Exec(t.Context())
	require.NoError(t, err)
	books := []*Book{{ShelfID: shelf.ID, Title: "one"}, {ShelfID: shelf.ID, Title: "two"}}
	_, err = db.NewInsert().Model(&books).Exec(t.Context())
	require.NoError(t, err)

	read := new(Shelf)
	require.NoError(t, db.NewSelect().Model(read).Relation("Books").Where("name = ?", "top").Scan(t.Context()))
	require.Len(t, read.Books, 2)
	book := new(Book)
	require.NoError(t, db.NewSelect().Model(book).Relation("Shelf").Where("title = ?", "two").Scan(t.Context()))
	require.Equal(t, "top", book.Shelf.Name)
}

func TestBunWritesArraysAndJSON(t *testing.T) {
	db := openBun(t, pgtest.NewDatabase(t))
	books := make([]*Book, 300)
	for i := range books {
		books[i] = &Book{Title: fmt.Sprint(i), Tags: []string{`it's "x"`, `{a,\b}`}, Pages: []int64{1, int64(i)},
			Meta: map[string]string{"k": "v'"}}
	}
	_, err := db.NewRaw("alter table books drop constraint books_shelf_id_fkey").Exec(t.Context())
	require.NoError(t, err)
	_, err = db.NewInsert().Model(&books).Exec(t.Context())
	require.NoError(t, err)

	var read []*Book
	require.NoError(t, db.NewSelect().Model(&read).Where("? = any (tags)", `it's "x"`).
		Where("meta ->> ? = ?", "k", "v'").Where("title in ?", bun.Tuple([]string{"0", "299"})).
		Order("id").Scan(t.Context()))
	require.Len(t, read, 2)
	require.Equal(t, books[299], read[1])
}

func TestBunRollsBackToASavepoint(t *testing.T) {
	db := openBun(t, dropin.OneConn(pgtest.NewDatabase(t)))
	require.NoError(t, db.RunInTx(t.Context(), nil, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.NewInsert().Model(&Shelf{Name: "kept"}).Exec(ctx); err != nil {
			return err
		}
		dropin.RequireState(t, tx.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error { // a savepoint
			_, err := tx.NewInsert().Model(&Shelf{Name: "kept"}).Exec(ctx)
			return err
		}), "23505")
		return nil
	}))
	n, err := db.NewSelect().Model((*Shelf)(nil)).Count(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
}

// bun writes values into the text of its statements, so that each is another text. By pgx's default each would be
// prepared, and kept until 512 later ones have pushed it out: a round trip and some memory of the server for nothing.
func TestBunNeedsAnExecModeThatPreparesNothing(t *testing.T) {
	const shelves = 20
	for mode, prepares := range map[string]bool{"cache_statement": true, "exec": false, "simple_protocol": false} {
		t.Run(mode, func(t *testing.T) {
			db := openBun(t, pgtest.With(dropin.OneConn(pgtest.NewDatabase(t)), "default_query_exec_mode", mode))
			for i := range shelves {
				err := db.NewSelect().Model(new(Shelf)).Where("id = ?", i).Scan(t.Context())
				require.ErrorIs(t, err, sql.ErrNoRows)
			}
			var prepared int
			require.NoError(t, db.NewRaw("select count(*) from pg_prepared_statements where statement like '%shelves%'").
				Scan(t.Context(), &prepared))
			if prepares {
				require.GreaterOrEqual(t, prepared, shelves)
			} else {
				require.Zero(t, prepared)
			}
		})
	}
}
