package main

import (
	"database/sql"
	"slices"

	"github.com/pgprod/pgprod"
)

// pool is a database opened with pgprod, and what it reports of its connections.
type pool struct {
	*sql.DB
	meters *meters
}

// openPool opens the pool that the environment, the DSN and the command line ask for. more wins over them.
func openPool(dsn string, o options, more ...pgprod.Option) (*pool, error) {
	p := &pool{meters: &meters{waits: newLatencies()}}
	opts := []pgprod.Option{pgprod.WithMeterProvider(p.meters)}
	if o.profile != "" {
		opts = append(opts, pgprod.WithProfile(o.profile))
	}
	db, err := pgprod.Open(dsn, slices.Concat(opts, more)...)
	if err != nil {
		return nil, err
	}
	p.DB = db
	return p, nil
}

func (p *pool) status() (pgprod.PoolStatus, error) { return pgprod.Status(p.DB) }
