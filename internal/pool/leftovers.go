package pool

import (
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
