package sqlsummary

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// The tests of this file hold the package against PostgreSQL itself.

func connect(t *testing.T) *pgconn.PgConn {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), pgtest.NewDatabase(t))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

const syntaxError = "42601"

// prepare has the server parse a statement. It returns its columns and the SQLSTATE, "" if all is well.
func prepare(t *testing.T, conn *pgconn.PgConn, sql string) (columns []string, state string) {
	t.Helper()
	d, err := conn.Prepare(t.Context(), "", sql, nil)
	if err == nil {
		for _, f := range d.Fields {
			columns = append(columns, f.Name)
		}
		return columns, ""
	}
	var pgErr *pgconn.PgError
	require.True(t, errors.As(err, &pgErr), "%v: %s", err, sql)
	if strings.Contains(pgErr.Message, "multiple commands") { // their syntax was right
		return nil, ""
	}
	return nil, pgErr.Code
}

func TestTheServerTakesTheGoldenStatements(t *testing.T) {
	conn := connect(t)
	old := conn.ParameterStatus("server_version") < "15"
	for _, g := range golden {
		if old && strings.Contains(g.sql, "MERGE") || strings.Contains(g.sql, "\x00") {
			continue
		}
		_, state := prepare(t, conn, g.sql)
		refused := state == syntaxError || state == "22021" // an invalid character
		if g.summary == "" && !utf8.ValidString(g.sql) {
			continue
		}
		assert.Equal(t, g.broken, refused, "%s: %s", state, g.sql)
	}
}

// TestTheServerSeesTheSameLiterals makes random statements of the characters the lexical rules are about. Of each that
// the server takes, the sanitised text must be SQL too and have as many columns, and SECRET may be left in it only as
// often as in the names of the columns: everywhere else it was in a literal or a comment.
func TestTheServerSeesTheSameLiterals(t *testing.T) {
	conn := connect(t)
	random := rand.New(rand.NewPCG(1, 2))
	atoms := []string{
		"'", "'", "'", "''", `\`, `\'`, `"`, "$$", "$$", "$a$", "$a$", "$b$", "/*", "*/", "--", "\n", "\n", " ", " ", ",", ",", "e'",
		"E'", "U&'", "N'", "B'", "u&\"", "1", "2.", ".5", "1e5", "_", "a", "é", "$1", "+", "-", "SECRET", "SECRET", "SECRET", "1..2", "::text",
	}
	taken := 0
	for range 20_000 {
		var b strings.Builder
		b.WriteString("SELECT ")
		for range 1 + random.IntN(9) {
			b.WriteString(atoms[random.IntN(len(atoms))])
		}
		sql := b.String()
		columns, state := prepare(t, conn, sql)
		if state != "" {
			continue
		}
		taken++
		text := Parse(sql).Text
		after, state := prepare(t, conn, text)
		require.NotEqual(t, syntaxError, state, "%q became %q", sql, text)
		if state == "" {
			require.Len(t, after, len(columns), "%q became %q", sql, text)
		}
		names := strings.ToUpper(strings.Join(columns, " "))
		require.LessOrEqual(t, strings.Count(text, "SECRET"), strings.Count(names, "SECRET"), "%q became %q", sql, text)
	}
	assert.Greater(t, taken, 500, "statements the server took")
	t.Logf("the server took %d", taken)
}

func TestNamesAreFoldedAsTheServerFoldsThem(t *testing.T) {
	conn := connect(t)
	for _, c := range [][2]string{{"Ab", "aB"}, {"Ä", "ä"}, {"Äb", "ÄB"}, {`"ä"`, "Ä"}, {`"ab"`, "AB"}, {`"AB"`, "ab"}, {"É", "É"}} {
		_, state := prepare(t, conn, "WITH "+c[0]+" AS (SELECT 1) SELECT * FROM "+c[1])
		assert.Equal(t, state == "", fold(c[0]) == fold(c[1]), "%s is %s: %s", c[0], c[1], state)
	}
}

func TestKeywordsAreTheServers(t *testing.T) {
	conn := connect(t)
	result := conn.ExecParams(t.Context(), "select word, catcode::text from pg_get_keywords()", nil, nil, nil, nil).Read()
	require.NoError(t, result.Err)
	categories := map[string]string{}
	for _, row := range result.Rows {
		categories[string(row[0])] = string(row[1])
	}
	for name, key := range keywords {
		category, known := categories[name]
		if !known { // in this version
			continue
		}
		assert.Equal(t, category == "R" || category == "T", key&reserved != 0, "%s has category %s", name, category)
	}
}
