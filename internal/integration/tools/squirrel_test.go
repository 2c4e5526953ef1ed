package tools

import (
	"testing"

	"github.com/Masterminds/squirrel"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSquirrelBuildsAndRunsStatementsOnAPoolAndInATransaction(t *testing.T) {
	t.Parallel()
	db := newPool(t)
	mustExec(t, db, "create table users (id serial primary key, name text, tags text[])")
	builder := squirrel.StatementBuilder.PlaceholderFormat(squirrel.Dollar)

	var id int
	insert := builder.Insert("users").Columns("name", "tags").Values("ann", []string{"a", "b"}).Suffix("returning id")
	require.NoError(t, insert.RunWith(db).QueryRowContext(t.Context()).Scan(&id))
	assert.Equal(t, 1, id)

	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	in := builder.RunWith(tx)
	res, err := in.Insert("users").Columns("name").Values("bob").Values("cy").ExecContext(t.Context())
	require.NoError(t, err)
	n, err := res.RowsAffected()
	require.NoError(t, err)
	assert.EqualValues(t, 2, n)
	_, err = in.Update("users").Set("name", squirrel.Expr("upper(name)")).Where(squirrel.Like{"name": "b%"}).Exec()
	require.NoError(t, err)
	_, err = in.Delete("users").Where(squirrel.And{squirrel.Eq{"name": []string{"cy", "dan"}}, squirrel.Gt{"id": 1}}).Exec()
	require.NoError(t, err)
	require.NoError(t, tx.Commit())

	rows, err := builder.Select("name").From("users").OrderBy("id").RunWith(db).QueryContext(t.Context())
	require.NoError(t, err)
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		names = append(names, name)
	}
	require.NoError(t, rows.Err())
	assert.Equal(t, []string{"ann", "BOB"}, names)
}

func TestSquirrelsStatementCachePreparesEachTextOnceAndHoldsNoConnection(t *testing.T) {
	t.Parallel()
	db := newPool(t)
	cache := squirrel.NewStmtCache(db)
	builder := squirrel.StatementBuilder.PlaceholderFormat(squirrel.Dollar).RunWith(cache)
	for i := range 20 {
		var sum int
		require.NoError(t, builder.Select().Column("?::int + 1", i).QueryRowContext(t.Context()).Scan(&sum))
		assert.Equal(t, i+1, sum)
	}
	assert.Equal(t, 1, get[int](t, db, "select count(*) from pg_prepared_statements where statement like '%::int + 1'"))
	require.NoError(t, cache.Clear())
	requireNothingLeft(t, db)
}
