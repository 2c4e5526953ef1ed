package sqlcgen_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/integration/orm/dropin"
	"github.com/pgprod/pgprod/internal/integration/orm/sqlcgen"
	"github.com/pgprod/pgprod/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// open opens a pool with sqlc's schema, which the end of the test closes.
func open(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db := dropin.Open(t, dsn)
	schema, err := os.ReadFile("schema.sql")
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), string(schema))
	require.NoError(t, err)
	return db
}

// client is sqlc's code for the tests that all libraries have in common, with its queries prepared or not.
func client(prepared bool) func(testing.TB, string) dropin.Client {
	return func(t testing.TB, dsn string) dropin.Client {
		t.Helper()
		db := open(t, dsn)
		q := sqlcgen.New(db)
		if prepared {
			q = prepare(t, db)
		}
		insert := func(ctx context.Context, q *sqlcgen.Queries, name string) error {
			_, err := q.CreateAuthor(ctx, sqlcgen.CreateAuthorParams{Name: name})
			return err
		}
		return dropin.Client{
			DB:     db,
			Insert: func(ctx context.Context, name string) error { return insert(ctx, q, name) },
			Names: func(ctx context.Context) (names []string, err error) {
				authors, err := q.ListAuthors(ctx)
				for _, author := range authors {
					names = append(names, author.Name)
				}
				return names, err
			},
			InTx: func(ctx context.Context, f func(func(string) error) error) error {
				return pgprod.InTx(ctx, db, func(tx *sql.Tx) error {
					return f(func(name string) error { return insert(ctx, q.WithTx(tx), name) })
				})
			},
		}
	}
}

func prepare(t testing.TB, db *sql.DB) *sqlcgen.Queries {
	t.Helper()
	q, err := sqlcgen.Prepare(t.Context(), db)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, q.Close()) })
	return q
}

func TestSQLCDropsIn(t *testing.T) {
	t.Run("New", func(t *testing.T) { dropin.Check(t, client(false)) })
	t.Run("Prepare", func(t *testing.T) { dropin.Check(t, client(true)) })
}

func TestSQLCReadsAndWritesArraysJSONAndTimes(t *testing.T) {
	db := open(t, dropin.OneConn(pgtest.NewDatabase(t)))
	for name, q := range map[string]*sqlcgen.Queries{"New": sqlcgen.New(db), "Prepare": prepare(t, db)} {
		t.Run(name, func(t *testing.T) {
			bio := sql.NullString{String: "b", Valid: true}
			ann, err := q.CreateAuthor(t.Context(), sqlcgen.CreateAuthorParams{Name: name, Bio: bio})
			require.NoError(t, err)
			want := sqlcgen.CreateBookParams{AuthorID: ann.ID, Title: "one", Tags: []string{`it's "x"`, `{a,\b}`, ""},
				Meta: json.RawMessage(`{"k": [1, null]}`), Published: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)}
			_, err = q.CreateBook(t.Context(), want)
			require.NoError(t, err)

			rows, err := q.BooksOf(t.Context(), ann.ID)
			require.NoError(t, err)
			require.Len(t, rows, 1)
			got := rows[0].Book
			require.Equal(t, name, rows[0].Author)
			require.Equal(t, want.Tags, got.Tags)
			require.JSONEq(t, string(want.Meta), string(got.Meta))
			require.WithinDuration(t, want.Published, got.Published, 0)

			named, err := q.AuthorsNamed(t.Context(), []string{name, "nobody"})
			require.NoError(t, err)
			require.Equal(t, []sqlcgen.Author{ann}, named)
			changed, err := q.RenameAuthor(t.Context(), sqlcgen.RenameAuthorParams{ID: ann.ID, Name: name + "!"})
			require.NoError(t, err)
			require.EqualValues(t, 1, changed)
		})
	}
}

func TestSQLCRunsInATransaction(t *testing.T) {
	db := open(t, dropin.OneConn(pgtest.NewDatabase(t)))
	q := prepare(t, db)
	changedMind := errors.New("changed my mind")
	require.ErrorIs(t, pgprod.InTx(t.Context(), db, func(tx *sql.Tx) error {
		_, err := q.WithTx(tx).CreateAuthor(t.Context(), sqlcgen.CreateAuthorParams{Name: "undone"})
		return errors.Join(err, changedMind)
	}), changedMind)
	authors, err := q.ListAuthors(t.Context())
	require.NoError(t, err)
	require.Empty(t, authors)
}

// The generated package imports lib/pq for pq.Array, so that the name "postgres" is taken.
func TestSQLCsArraysTakeTheNamePostgres(t *testing.T) {
	require.Contains(t, sql.Drivers(), "postgres")
	require.Panics(t, func() { pgprod.Register("postgres") })
}
