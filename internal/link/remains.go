package link

import (
	"cmp"
	"strings"

	"github.com/pgprod/pgprod/internal/sqlsummary"
)

// withRemains returns what a statement that was cut short may have left behind, since not all statements are rolled back as a
// whole; if it leaves nothing, the hint.
func withRemains(hint, sql string) string { return cmp.Or(remainsOf(sql), hint) }

// remainsOf says what a statement that has been ended early may have left, and what to do about it, in brackets with a space
// before; "": nothing. It shows names of the statement's text, but none of its literals.
func remainsOf(sql string) string {
	if !mayRemain(sql) {
		return ""
	}
	r := sqlsummary.RemainsOf(sql)
	switch r.Kind {
	case sqlsummary.RemainsIndex:
		if r.Name == "" {
			return " (an invalid index on " + r.Parent + " may be left, which slows writes down: DROP INDEX CONCURRENTLY the one on " +
				"it that is not indisvalid in pg_index, then try again)"
		}
		return " (the index " + r.Name + " may be left, invalid, which slows writes down, and IF NOT EXISTS takes for done: " +
			"DROP INDEX CONCURRENTLY " + r.Name + ", then try again)"
	case sqlsummary.RemainsCopy:
		return " (an invalid index may be left beside " + r.Name + ": DROP INDEX it; if its name ends in _ccnew, try again " +
			"then; if it ends in _ccold, it was replaced already, and all is done)"
	case sqlsummary.RemainsCopies:
		return " (invalid indexes may be left: DROP INDEX those that are not indisvalid in pg_index; for one whose name ends in " +
			"_ccnew, try again then; one whose name ends in _ccold was replaced already)"
	case sqlsummary.RemainsDropping:
		return " (the index " + r.Name + " may be left, invalid, which slows writes down: DROP INDEX CONCURRENTLY it again)"
	case sqlsummary.RemainsDetaching:
		return " (the partition may be left half detached: ALTER TABLE " + r.Parent + " DETACH PARTITION " + r.Name + " FINALIZE)"
	case sqlsummary.RemainsDatabase:
		return " (the database " + r.Name + " may be left, invalid, where nobody can connect to it: DROP DATABASE it again)"
	}
	return ""
}

// mayRemain is a cheap filter of what remainsOf has to look at.
func mayRemain(sql string) bool {
	return isSingle(sql) && beginsAs(sql, "create", "reindex", "drop", "alter")
}

// beginsAs reports whether a text begins with one of these words, or with a comment.
func beginsAs(sql string, words ...string) bool {
	sql = opening(sql)
	for _, word := range words {
		if len(sql) >= len(word) && strings.EqualFold(sql[:len(word)], word) {
			return true
		}
	}
	return strings.HasPrefix(sql, "/*")
}
