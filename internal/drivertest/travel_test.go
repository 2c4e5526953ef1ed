package drivertest

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// A route is a way in which a statement gets to the server: a column of the table in internal/docs/sessions.md.
type route struct {
	name string
	mode string // default_query_exec_mode
	send func(ctx context.Context, q querier) error
}

// notesName is a statement that notes the application_name that it has.
const notesName = "insert into seen select current_setting('application_name')"

var routes = []route{
	{"`cache_statement`", "cache_statement", sends(notesName+" where $1", true)},
	{"`cache_describe`", "cache_describe", sends(notesName+" where $1", true)},
	{"`describe_exec`", "describe_exec", sends(notesName+" where $1", true)},
	{"`exec`", "exec", sends(notesName+" where $1", true)},
	{"`simple_protocol`", "simple_protocol", sends(notesName+" where $1", true)},
	{"`Exec` without arguments", "cache_statement", sends(notesName)},
	{"several statements", "cache_statement", sends("select 1; " + notesName)},
	{"`CALL`, `DO`", "cache_statement", sends("call notes()")},
	{"`Raw`", "cache_statement", sendsRaw},
}

// sends returns what has a statement executed.
func sends(query string, args ...any) func(context.Context, querier) error {
	return func(ctx context.Context, q querier) error {
		_, err := q.ExecContext(ctx, query, args...)
		return err
	}
}

// sendsRaw has it executed by pgx's connection. A *sql.Conn is one with a transaction.
func sendsRaw(ctx context.Context, q querier) error {
	send := func(c *pgx.Conn) error {
		_, err := c.Exec(ctx, notesName, pgx.QueryExecModeExec)
		return err
	}
	if db, ok := q.(*sql.DB); ok {
		return pgprod.Raw(ctx, db, send)
	}
	return q.(*sql.Conn).Raw(func(driverConn any) error {
		return send(driverConn.(interface{ Conn() *pgx.Conn }).Conn())
	})
}

// TestTheManualSaysWhatTravelsInWhichMode makes the table of the manual from what it sees on the wire.
func TestTheManualSaysWhatTravelsInWhichMode(t *testing.T) {
	t.Parallel()
	columns := make([][]string, len(routes))
	for i, r := range routes {
		columns[i] = r.column(t)
	}
	table := "| what |"
	for _, r := range routes {
		table += " " + r.name + " |"
	}
	table += "\n|---|" + strings.Repeat("---|", len(routes)) + "\n"
	for row, name := range []string{"BEGIN", "settings in a transaction", "settings outside", "cleaning", "trace context"} {
		table += "| " + name + " |"
		for _, column := range columns {
			table += " " + column[row] + " |"
		}
		table += "\n"
	}
	require.Contains(t, rootFile(t, "internal/docs/sessions.md"), table, "replace its table by:\n%s", table)
}

// column is the route's column of the table.
func (r route) column(t *testing.T) []string {
	t.Helper()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	tr := newTracing(t)
	dsn := oneConn(proxy.DSN(), "default_query_exec_mode", r.mode)
	db := openPool(t, dsn)
	mustExec(t, db, "create table seen (name text)")
	mustExec(t, db, "create procedure notes() language sql as $$ "+notesName+" $$")
	// trips returns how many round trips something takes, the fewest of several times: the first prepares.
	trips := func(do func() error) (fewest int, err error) {
		fewest = 1000
		for range 4 {
			before := proxy.Stats().RoundTrips
			err = do()
			fewest = min(fewest, proxy.Stats().RoundTrips-before)
		}
		return fewest, err
	}
	in := func(ctx context.Context, begin bool) func() error {
		return func() error {
			if !begin {
				return r.send(ctx, db)
			}
			conn, err := db.Conn(t.Context())
			require.NoError(t, err)
			defer conn.Close()
			tx, err := conn.BeginTx(ctx, nil)
			require.NoError(t, err)
			defer tx.Rollback()
			return r.send(t.Context(), conn)
		}
	}
	alone, err := trips(in(t.Context(), false))
	require.NoError(t, err)
	inTx, err := trips(in(t.Context(), true))
	require.NoError(t, err)
	const rollback = 1
	column := []string{told(inTx - rollback - alone)}

	withSettings, err := trips(in(tenantCtx(t, "A"), true))
	require.NoError(t, err)
	column = append(column, told(withSettings-inTx))
	withSettings, err = trips(in(tenantCtx(t, "A"), false))
	if err == nil {
		column = append(column, told(withSettings-alone))
	} else {
		assert.ErrorContains(t, err, "pgprod: the settings of the context can't travel")
		assert.Zero(t, withSettings)
		column = append(column, "refused")
	}

	cleaned, err := trips(func() error {
		mustExec(t, db, "set app.tenant = 'A'")
		return r.send(t.Context(), db)
	})
	require.NoError(t, err)
	column = append(column, told(cleaned-alone-1))

	traced := warm(t, with(dsn, "trace_context", "application_name"), tr)
	mustExec(t, traced, "delete from seen")
	ctx, _ := tr.parent()
	require.NoError(t, r.send(ctx, traced))
	name := get[string](t, traced, "select name from seen")
	if strings.HasPrefix(name, "00-") {
		return append(column, told(0))
	}
	return append(column, "–")
}

// told is the manual's word for something that takes so many round trips.
func told(trips int) string {
	switch trips {
	case 0:
		return "along"
	case 1:
		return "ahead"
	}
	return fmt.Sprint(trips, " round trips")
}
