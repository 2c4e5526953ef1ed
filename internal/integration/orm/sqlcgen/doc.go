// Package sqlcgen is what sqlc makes of schema.sql and query.sql for database/sql, and its test.
//
// The test is not with those of the other libraries, since for arrays sqlc writes pq.Array: the generated package links
// lib/pq, which takes the name "postgres" that pgprod.Register takes there.
package sqlcgen

//go:generate go run github.com/sqlc-dev/sqlc/cmd/sqlc@v1.31.1 generate
