// Package examples has functions for pgprod.WithCredentials, to be copied: what a program logs in with by AWS's, Azure's and
// Google's identities, and by Vault's leases. It is a module of its own, so that pgprod's users don't get these SDKs.
//
//	vault.go     roles that HashiCorp's Vault makes and drops
//	rds.go       tokens for Amazon RDS and Aurora
//	entra.go     tokens for Azure Database for PostgreSQL
//	cloudsql.go  tokens for Google Cloud SQL
package examples

import (
	"context"

	"github.com/pgprod/pgprod"
)

// A Source is what pgprod.WithCredentials takes.
type Source = func(context.Context) (pgprod.Credentials, error)
