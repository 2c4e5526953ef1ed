// Package lab is the laboratory of hosts that fail: three PostgreSQL servers on hosts of their own, of which one is the primary and
// two are its standbys, while workers write through pgprod, through pgx's driver for database/sql and through pgxpool, all with
// the same DSN. Its tests are Linux's.
package lab
