package sqlsummary

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestSummariesNameOperationsAndTargetsInTheOrderOfTheText(t *testing.T) {
	for _, g := range golden {
		assert.Equal(t, g.summary, Parse(g.sql).Summary, g.sql)
	}
}

func TestASummaryKnowsItsFirstOperation(t *testing.T) {
	for sql, want := range map[string]string{
		`select * from "s"."T" where a = 1`:      "select",
		`INSERT INTO a SELECT * FROM b`:          "INSERT",
		`CREATE  INDEX i ON t (a)`:               "CREATE INDEX",
		`CREATE MATERIALIZED VIEW v AS SELECT 1`: "CREATE MATERIALIZED VIEW",
		`WITH x AS (SELECT 1) DELETE FROM t`:     "SELECT",
		`SET TIME ZONE 'UTC'`:                    "SET TIME ZONE",
		`BEGIN; SELECT 1`:                        "BEGIN",
		`hello`:                                  "",
		``:                                       "",
	} {
		assert.Equal(t, want, Parse(sql).first, sql)
	}
}

func TestReturningIsThatOfTheStatementItself(t *testing.T) {
	for sql, want := range map[string]bool{
		"INSERT INTO t VALUES (1) RETURNING a":                                true,
		"INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING returning a;":        true,
		"UPDATE t SET a = 1 FROM u WHERE b RETURNING *":                       true,
		"DELETE FROM t USING u RETURNING WITH (OLD AS o) o.a":                 true,
		"MERGE INTO t USING u ON a WHEN MATCHED THEN DELETE RETURNING t.a":    true,
		"WITH x AS (SELECT 1) DELETE FROM t RETURNING a":                      true,
		"SELECT 1; DELETE FROM t RETURNING a":                                 true,
		"DELETE FROM t RETURNING a; DELETE FROM t":                            false,
		"WITH x AS (DELETE FROM t RETURNING a) INSERT INTO u SELECT a FROM x": false,
		"INSERT INTO t SELECT 1 AS returning":                                 false,
		"INSERT INTO t SELECT u.returning FROM u":                             false,
		"INSERT INTO t VALUES ('RETURNING a') -- RETURNING a":                 false,
		`INSERT INTO t SELECT "returning" FROM u`:                             false,
		"UPDATE t SET a = 1":                                                  false,
	} {
		assert.Equal(t, want, Parse(sql).Returning, sql)
	}
}

func TestSummariesAreCutBetweenTokens(t *testing.T) {
	name := strings.Repeat("n", 99)
	s := Parse("SELECT a FROM " + name + ", " + name + ", " + name + ", t")
	assert.Equal(t, "SELECT "+name+" "+name, s.Summary, "nothing after the first that doesn't fit")

	exact := strings.Repeat("n", maxSummary-len("SELECT "))
	s = Parse("SELECT a FROM " + exact)
	assert.Equal(t, "SELECT "+exact, s.Summary)
	s = Parse("SELECT a FROM " + exact + "n")
	assert.Equal(t, "SELECT", s.Summary)
	s = Parse("SELECT a FROM " + exact[:240] + "; CREATE TABLE " + exact)
	assert.LessOrEqual(t, len(s.Summary), maxSummary)
}

func TestDeepParenthesesAreSkippedAndLeftAgain(t *testing.T) {
	deep := func(n int) string {
		return "SELECT " + strings.Repeat("(", n) + "SELECT a FROM u" + strings.Repeat(")", n) + " FROM t"
	}
	assert.Equal(t, "SELECT SELECT u t", Parse(deep(maxDepth-1)).Summary)
	assert.Equal(t, "SELECT t", Parse(deep(maxDepth)).Summary)
	assert.Equal(t, "SELECT t", Parse(deep(10_000)).Summary)
}
