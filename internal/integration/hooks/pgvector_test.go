package hooks

import (
	"context"
	"database/sql"
	"encoding/hex"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pgvector/pgvector-go"
	pgxvec "github.com/pgvector/pgvector-go/pgx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// emulatedVector makes a type that is to a client what pgvector's vector is in the binary format, whose bytes it keeps as they
// come. It has none of pgvector's operators, and another text format. (database/sql gets results as text, which pgvector's own
// Scan reads, whether types are registered or not. What these are for is arguments.)
const emulatedVector = `
	create type vector;
	create function vector_in(cstring) returns vector language internal immutable strict as 'byteain';
	create function vector_out(vector) returns cstring language internal immutable strict as 'byteaout';
	create function vector_recv(internal) returns vector language internal immutable strict as 'bytearecv';
	create function vector_send(vector) returns bytea language internal immutable strict as 'byteasend';
	create type vector (input = vector_in, output = vector_out, receive = vector_recv, send = vector_send);`

// vectorDSN makes a database with pgvector, or with an emulation of its type where the extension isn't installed.
func vectorDSN(t *testing.T) string {
	t.Helper()
	dsn := pgtest.NewDatabase(t)
	admin := open(t, dsn)
	how := emulatedVector
	if get[bool](t, admin, "select exists (select from pg_available_extensions where name = 'vector')") {
		how = "create extension vector"
	} else {
		t.Log("pgvector is emulated: its package, postgresql-N-pgvector, is not installed")
	}
	_, err := admin.Exec(how + "; create table items (id int primary key, embedding vector)")
	require.NoError(t, err)
	return dsn
}

// throughVectors writes vectors by a pool, as arguments, and returns what the server has got, in the type's binary format.
func throughVectors(db *sql.DB) (all [][]byte, err error) {
	ctx := context.Background()
	for i := range 8 {
		var sent []byte
		err := db.QueryRowContext(ctx, "insert into items values ($1, $2) on conflict (id) do update set embedding = excluded.embedding "+
			"returning vector_send(embedding)", i, pgvector.NewVector([]float32{float32(i), 0.5, -1})).Scan(&sent)
		if err != nil {
			return nil, err
		}
		all = append(all, sent)
	}
	return all, nil
}

func TestTypesOfPgvectorsServeEveryConnectionAsWithPgx(t *testing.T) {
	t.Parallel()
	dsn := vectorDSN(t)
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	plain := stdlib.OpenDB(*cfg, stdlib.OptionAfterConnect(pgxvec.RegisterTypes))
	defer plain.Close()
	want, err := throughVectors(plain)
	require.NoError(t, err)
	assert.Equal(t, "00030000404000003f000000bf800000", hex.EncodeToString(want[3]), "three dimensions: 3, 0.5, -1")

	db := open(t, pgtest.With(dsn, "pool_size", "4", "pool_reset", "always"), pgprod.WithAfterConnect(pgxvec.RegisterTypes))
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for range 5 {
				got, err := throughVectors(db)
				if assert.NoError(t, err) {
					assert.Equal(t, want, got)
				}
			}
		})
	}
	workers.Wait()
}
