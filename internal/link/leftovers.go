package link

import (
	"slices"
	"strings"

	"github.com/pgprod/pgprod/internal/sqlsummary"
)

// leavesTraces reports whether a statement that ended with tag changed the session for whoever borrows the connection
// next: a setting that outlives the transaction, a subscription, a prepared name, or less than pgx believes to be
// prepared. Such a connection is closed when it comes back; settings that every session needs belong in
// server_settings.
//
// What SET LOCAL and SET TRANSACTION do ends with the transaction. Of several statements in one text the tag is that of
// the last, and there is none if one failed, even after a COMMIT: there the text is looked at.
func leavesTraces(tag, sql string) bool {
	if isOne(sql) && tag != "SET" {
		return tag == "LISTEN" || tag == "RESET" || tag == "DISCARD ALL" || tag == "DEALLOCATE ALL" || tag == "PREPARE"
	}
	for one := range sqlsummary.Split(sql) {
		if marks(one) {
			return true
		}
	}
	return false
}

// marks is leavesTraces for the text of one statement.
func marks(sql string) bool {
	first, second := sqlsummary.FirstWords(sql)
	switch strings.ToLower(first) {
	case "listen", "reset":
		return true
	case "set":
		second = strings.ToLower(second)
		return second != "local" && second != "transaction" && second != "constraints"
	case "prepare":
		return !strings.EqualFold(second, "transaction")
	case "discard", "deallocate":
		second = strings.ToLower(second)
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
	first, second := sqlsummary.FirstWords(sql)
	switch strings.ToLower(first) {
	case "commit", "end":
	case "prepare":
		if !strings.EqualFold(second, "transaction") {
			return false
		}
	default:
		return false
	}
	return len(slices.Collect(sqlsummary.Split(sql))) == 1
}
