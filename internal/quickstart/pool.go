package main

import (
	"database/sql"
	"slices"

	"github.com/pgprod/pgprod"
)

// pool is a database that is opened with pgprod, with the metrics of its pool.
type pool struct {
	*sql.DB
	meters *meters
}

// openPool opens a pool with the settings of the environment, the DSN and the command line. The options more win over these.
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
