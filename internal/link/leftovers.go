package link

import (
	"slices"
	"strings"

	"github.com/pgprod/pgprod/internal/sqlsummary"
)

// leavesTraces reports whether a text that ended with the command tag has changed the session for the next borrower: by a
// setting that outlives the transaction, a subscription (LISTEN), a name for a prepared statement, or by deallocating
// statements that pgx believes to be prepared. Such a connection is closed when it is given back. Settings that every
// session needs belong in server_settings.
//
// For a single statement the tag is enough, except for SET: SET LOCAL and SET TRANSACTION end with the transaction. If there
// are several statements in the text, the tag is that of the last, and there is no tag if one has failed, though those
// before it may have been committed. Then the statements themselves are looked at.
func leavesTraces(tag, sql string) bool {
	if isSingle(sql) && tag != "SET" {
		return tag == "LISTEN" || tag == "RESET" || tag == "DISCARD ALL" || tag == "DEALLOCATE ALL" || tag == "PREPARE"
	}
	for statement := range sqlsummary.Split(sql) {
		if changesSession(statement) {
			return true
		}
	}
	return false
}

// changesSession is leavesTraces for the text of a single statement.
func changesSession(sql string) bool {
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

// commits reports whether a text is a single statement that is a COMMIT in one of its forms (COMMIT, END, PREPARE
// TRANSACTION, COMMIT PREPARED). Such a statement is not cancelled, and its error says whether it took place.
func commits(sql string) bool {
	if sql == "" || strings.IndexByte("cCeEpP", sql[0]) < 0 && sql[0] >= 'A' {
		return false // as a rule: the first letter shows that it is another statement
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
