package oracle

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
)

// mutant is pgprod with a bug that it once had: each connection has one set of rows, which the next query takes away from
// the one before, whose result had no rows and was never closed.
type mutant struct{ *pgprod.Connector }

func (m mutant) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := m.Connector.Connect(ctx)
	return &mutantConn{session: conn.(session)}, err
}

// session is all that a connection of pgprod's can do.
type session interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ConnBeginTx
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.NamedValueChecker
	driver.SessionResetter
	driver.Validator
	Conn() *pgx.Conn
}

type mutantConn struct {
	session
	rows mutantRows
}

type mutantRows struct{ typedRows }

// typedRows are rows with all that database/sql asks them for.
type typedRows interface {
	driver.RowsColumnTypeDatabaseTypeName
	driver.RowsColumnTypeLength
	driver.RowsColumnTypePrecisionScale
	driver.RowsColumnTypeScanType
}

func (c *mutantConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := c.session.QueryContext(ctx, query, args)
	if err != nil {
		return nil, err
	}
	c.rows = mutantRows{rows.(typedRows)}
	return &c.rows, nil
}

func openMutant(dsn string, p program) (*sql.DB, error) {
	connector, err := pgprod.NewConnector(pgprodDSN(dsn, p), pgprodOptions...)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(mutant{connector}), nil
}

func TestTheOracleFindsByItselfThatQueriesShareTheirRows(t *testing.T) {
	sound, o := newOracle(t), newOracle(t)
	o.ours.open = openMutant
	for seed := range *programs {
		p := aProgram.Example(seed)
		if o.run(p) == "" || sound.run(p) != "" {
			continue
		}
		p, difference := o.shrink(p)
		t.Logf("found by program %d, shrunk to\n%s", seed+1, difference)
		assert.LessOrEqual(t, len(p.steps), 5)
		assert.Empty(t, sound.run(p), "it is the mutant's bug")
		return
	}
	require.Fail(t, "no program has found it")
}

// shrink takes steps out of a program for as long as it is answered differently.
func (o *oracle) shrink(p program) (_ program, difference string) {
	difference = o.run(p)
	for i := len(p.steps) - 1; i >= 0; i-- {
		shorter := p
		shorter.steps = slices.Delete(slices.Clone(p.steps), i, i+1)
		if d := o.run(shorter); d != "" {
			p, difference, i = shorter, d, len(shorter.steps)
		}
	}
	return p, difference
}
