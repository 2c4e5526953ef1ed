package tools

import (
	"database/sql"
	"testing"
	"time"

	"github.com/georgysavva/scany/v2/sqlscan"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type account struct {
	ID      uuid.UUID
	Name    string
	Email   *string
	Created time.Time    `db:"created_at"`
	Deleted sql.NullTime `db:"deleted_at"`
	Owner   owner
}

type owner struct{ Name string }

func TestScanyFillsStructsFromAPoolAndATransaction(t *testing.T) {
	t.Parallel()
	db := newPool(t)
	mustExec(t, db, `create table accounts (id uuid default gen_random_uuid(), name text, email text,
		created_at timestamptz default now(), deleted_at timestamptz)`)
	mustExec(t, db, "insert into accounts (name, email) values ('ann', null), ('bob', 'bob@example.com')")
	const query = `select id, name, email, created_at, deleted_at, upper(name) as "owner.name" from accounts where name = any($1)
		order by name`

	var all []account
	require.NoError(t, sqlscan.Select(t.Context(), db, &all, query, []string{"ann", "bob"}))
	require.Len(t, all, 2)
	assert.NotEqual(t, uuid.Nil, all[0].ID)
	assert.Nil(t, all[0].Email)
	assert.Equal(t, "bob@example.com", *all[1].Email)
	assert.Equal(t, owner{"ANN"}, all[0].Owner)
	assert.WithinDuration(t, time.Now(), all[0].Created, time.Hour)
	assert.False(t, all[0].Deleted.Valid)

	tx, err := db.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true})
	require.NoError(t, err)
	var one account
	require.NoError(t, sqlscan.Get(t.Context(), tx, &one, query, []string{"bob"}))
	assert.Equal(t, all[1], one)
	var names []string
	require.NoError(t, sqlscan.Select(t.Context(), tx, &names, "select name from accounts order by name desc"))
	assert.Equal(t, []string{"bob", "ann"}, names)
	err = sqlscan.Get(t.Context(), tx, &one, query, []string{"nobody"})
	assert.True(t, sqlscan.NotFound(err), "%v", err)
	require.NoError(t, tx.Commit())
	requireNothingLeft(t, db)
}
