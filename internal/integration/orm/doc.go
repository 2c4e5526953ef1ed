// Package orm proves on a real server that the libraries which people put on top of database/sql take pgprod in place
// of pgx, each through the path that its own manual shows. What must hold for all of them is in package dropin; the
// files here test what each has of its own. sqlc is in sqlcgen.
package orm
