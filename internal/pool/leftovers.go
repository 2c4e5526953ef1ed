package pool

import (
	"slices"
	"strings"

	"github.com/pgprod/pgprod/internal/sqlsummary"
)

// leavesTraces reports whether a statement that ended with tag changed the session for whoever borrows the connection
// next: a setting that outlives the transaction, a subscription, or less than pgx believes to be prepared. Such a
// connection is closed when it comes back; settings that every session needs belong into server_settings.
//
// What SET LOCAL and SET TRANSACTION do ends with the transaction. Of several statements in one text the tag is that of
// the last, and there is none if one failed, even after a COMMIT: there the text is looked at.
func leavesTraces(tag, sql string) bool {
	i := strings.IndexByte(sql, ';')
	if one := i < 0 || strings.TrimSpace(sql[i+1:]) == ""; one && tag != "SET" {
		return tag == "LISTEN" || tag == "RESET" || tag == "DISCARD ALL" || tag == "DEALLOCATE ALL"
	}
	for one := range sqlsummary.Split(sql) {
		if marks(one) {
			return true
		}
	}
	return false
}

// marks is leavesTraces for the text of one statement, which begins with its first word.
func marks(sql string) bool {
	first := firstWord(sql)
	second := strings.ToLower(firstWord(sql[len(first):]))
	switch strings.ToLower(first) {
	case "listen", "reset":
		return true
	case "set":
		return second != "local" && second != "transaction" && second != "constraints"
	case "discard", "deallocate":
		return second == "all" || second == "prepare"
	}
	return false
}

// commits reports whether a statement, the only one of its text, is a COMMIT in one of its forms: whether it took place
// has to be known for certain.
func commits(sql string) bool {
	if sql == "" || strings.IndexByte("cCeEpP", sql[0]) < 0 && sql[0] >= 'A' {
		return false // as a rule, and at once
	}
	switch len(firstWord(sql)) {
	case len("commit"), len("end"), len("prepare"), 0: // 0: it begins with a comment in a comment
	default:
		return false
	}
	all := slices.Collect(sqlsummary.Split(sql))
	if len(all) != 1 {
		return false
	}
	first := firstWord(all[0])
	switch strings.ToLower(first) {
	case "commit", "end":
		return true
	case "prepare":
		return strings.EqualFold(firstWord(all[0][len(first):]), "transaction")
	}
	return false
}
