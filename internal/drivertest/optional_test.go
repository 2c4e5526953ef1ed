package drivertest

import (
	"database/sql"
	"database/sql/driver"
	"fmt"
	"go/importer"
	"go/types"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// optional is an interface of database/sql/driver: which of a driver's objects it is for, and whose have it. A type is
// named as the kind of object that it is.
type optional struct {
	name      string
	of        string // the kinds of objects; "": none of a driver's
	pgx, ours string
	since     string // the Go that has it, if that is a later one than go.mod asks for
}

// optionals are all there are. What both leave out is deprecated, or would hide something better.
var optionals = []optional{
	{name: "Driver", of: "driver", pgx: "driver", ours: "driver"},
	{name: "DriverContext", of: "driver", pgx: "driver", ours: "driver"},
	{name: "Connector", of: "connector", pgx: "connector", ours: "connector"},
	{name: "Conn", of: "conn", pgx: "conn", ours: "conn"},
	{name: "ConnPrepareContext", of: "conn", pgx: "conn", ours: "conn"},
	{name: "ConnBeginTx", of: "conn", pgx: "conn", ours: "conn"},
	{name: "Pinger", of: "conn", pgx: "conn", ours: "conn"},
	{name: "ExecerContext", of: "conn", pgx: "conn", ours: "conn"},
	{name: "QueryerContext", of: "conn", pgx: "conn", ours: "conn"},
	{name: "Execer", of: "conn"},  // deprecated, for ExecerContext
	{name: "Queryer", of: "conn"}, // deprecated, for QueryerContext
	{name: "SessionResetter", of: "conn", pgx: "conn", ours: "conn"},
	{name: "Validator", of: "conn", ours: "conn"},                           // tells when a session is put away
	{name: "NamedValueChecker", of: "conn stmt", pgx: "conn", ours: "conn"}, // a statement's would hide the connection's
	{name: "Stmt", of: "stmt", pgx: "stmt", ours: "stmt"},
	{name: "StmtExecContext", of: "stmt", pgx: "stmt", ours: "stmt"},
	{name: "StmtQueryContext", of: "stmt", pgx: "stmt", ours: "stmt"},
	{name: "ColumnConverter", of: "stmt"}, // deprecated, for NamedValueChecker
	{name: "Tx", of: "tx", pgx: "tx", ours: "tx"},
	{name: "Result", of: "result", pgx: "result", ours: "result"},
	{name: "Rows", of: "rows", pgx: "rows", ours: "rows"},
	{name: "RowsNextResultSet", of: "rows"}, // a result of several statements is its first, with pgx
	{name: "RowsColumnTypeScanType", of: "rows", pgx: "rows", ours: "rows"},
	{name: "RowsColumnTypeDatabaseTypeName", of: "rows", pgx: "rows", ours: "rows"},
	{name: "RowsColumnTypeLength", of: "rows", pgx: "rows", ours: "rows"},
	{name: "RowsColumnTypeNullable", of: "rows"}, // the server doesn't tell with a result
	{name: "RowsColumnTypePrecisionScale", of: "rows", pgx: "rows", ours: "rows"},
	{name: "RowsColumnScanner", of: "rows", pgx: "rows", ours: "rows", since: "1.27"},
	{name: "Valuer"},         // of an argument
	{name: "ValueConverter"}, // of a helper
}

// declared are the interfaces of the package database/sql/driver of the Go that runs the test, as the compiler knows them.
func declared(t *testing.T) map[string]*types.Interface {
	t.Helper()
	pkg, err := importer.Default().Import("database/sql/driver")
	require.NoError(t, err)
	found := map[string]*types.Interface{}
	for _, name := range pkg.Scope().Names() {
		object, isType := pkg.Scope().Lookup(name).(*types.TypeName)
		if !isType || !object.Exported() {
			continue
		}
		if i, ok := object.Type().Underlying().(*types.Interface); ok && i.NumMethods() > 0 {
			found[name] = i
		}
	}
	return found
}

// implements compares what reflection and the type checker know, so that an interface that this Go lacks needs no name
// here.
func implements(t reflect.Type, i *types.Interface) bool {
	for m := range i.Methods() {
		have, ok := t.MethodByName(m.Name())
		if !ok || signature(have) != declaredSignature(m.Signature()) {
			return false
		}
	}
	return true
}

// declaredSignature writes a signature as the function signature does.
func declaredSignature(s *types.Signature) string {
	list := func(vars *types.Tuple) []string {
		var all []string
		for v := range vars.Variables() {
			name := types.TypeString(v.Type(), func(p *types.Package) string { return p.Name() })
			all = append(all, strings.ReplaceAll(name, "any", "interface {}"))
		}
		return all
	}
	return fmt.Sprint(list(s.Params()), list(s.Results()))
}

// objects are one of each kind that the driver behind db makes.
func objects(t *testing.T, db *sql.DB, dsn string) map[string]reflect.Type {
	t.Helper()
	connector, err := db.Driver().(driver.DriverContext).OpenConnector(dsn)
	require.NoError(t, err)
	if c, ok := connector.(interface{ Close() error }); ok {
		defer c.Close()
	}
	all := map[string]reflect.Type{"driver": reflect.TypeOf(db.Driver()), "connector": reflect.TypeOf(connector)}
	onDriverConn(t, db, func(conn driver.Conn) error {
		tx, err := conn.(driver.ConnBeginTx).BeginTx(t.Context(), driver.TxOptions{})
		require.NoError(t, err)
		st, err := conn.(driver.ConnPrepareContext).PrepareContext(t.Context(), "select 1")
		require.NoError(t, err)
		result, err := st.(driver.StmtExecContext).ExecContext(t.Context(), nil)
		require.NoError(t, err)
		rows, err := st.(driver.StmtQueryContext).QueryContext(t.Context(), nil)
		require.NoError(t, err)
		for kind, object := range map[string]any{"conn": conn, "tx": tx, "stmt": st, "result": result, "rows": rows} {
			all[kind] = reflect.TypeOf(object)
		}
		require.NoError(t, rows.Close())
		require.NoError(t, st.Close())
		return tx.Rollback()
	})
	return all
}

// having are those of the kinds whose objects implement i.
func having(kinds string, of map[string]reflect.Type, i *types.Interface) string {
	all := strings.Fields(kinds)
	return strings.Join(slices.DeleteFunc(all, func(kind string) bool { return !implements(of[kind], i) }), " ")
}

func TestEachInterfaceOfDatabaseSQLDriverIsImplementedWherePgxDoes(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	theirs, ours := objects(t, openPgx(t, dsn), dsn), objects(t, openPool(t, dsn), dsn)
	found := declared(t)
	require.Len(t, ours, 7)
	for _, o := range optionals {
		i, ok := found[o.name]
		delete(found, o.name)
		if !ok {
			assert.NotEmpty(t, o.since, "this Go has no driver.%s", o.name)
			continue
		}
		was, is := having(o.of, theirs, i), having(o.of, ours, i)
		t.Logf("%-30s for %-9s pgx: %-9s pgprod: %s", o.name, o.of, was, is)
		assert.Equal(t, o.pgx, was, "driver.%s with pgx", o.name)
		assert.Equal(t, o.ours, is, "driver.%s with pgprod", o.name)
		assert.Subset(t, strings.Fields(is), strings.Fields(was), "driver.%s: less than pgx", o.name)
	}
	assert.Empty(t, slices.Sorted(maps.Keys(found)), "this Go has interfaces that nobody has looked at: add them above")
}

// The driver that sql.Open finds is another type than that of the *sql.DB, which knows its pool.
func TestTheRegisteredDriverOpensConnectorsAsThatOfAPoolDoes(t *testing.T) {
	t.Parallel()
	i := declared(t)["DriverContext"]
	dsn := pgtest.NewDatabase(t)
	registered, err := sql.Open("pgprod", dsn)
	require.NoError(t, err)
	defer registered.Close()
	connector, err := registered.Driver().(driver.DriverContext).OpenConnector(dsn)
	require.NoError(t, err)
	db := sql.OpenDB(connector)
	defer db.Close()
	for _, d := range []driver.Driver{registered.Driver(), db.Driver()} {
		assert.True(t, implements(reflect.TypeOf(d), i), "%T", d)
	}
	requireReaches(t, db, dsn)
}
