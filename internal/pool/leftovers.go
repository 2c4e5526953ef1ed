package pool

import "strings"

// leavesTraces reports whether a statement that succeeded with tag changed the session for whoever borrows the
// connection next: a setting that outlives the transaction, a subscription, or less than pgx believes to be prepared.
// Such a connection is closed when it comes back; settings that every session needs belong into server_settings.
//
// What SET LOCAL and SET TRANSACTION do ends with the transaction.
func leavesTraces(tag, sql string) bool {
	if i := strings.IndexByte(sql, ';'); i >= 0 && strings.TrimSpace(sql[i+1:]) != "" {
		return oneLeavesTraces(sql)
	}
	switch tag {
	case "LISTEN", "DISCARD ALL", "DEALLOCATE ALL", "RESET":
		return true
	case "SET":
		return !setsForTransaction(sql)
	}
	return false
}

// oneLeavesTraces is leavesTraces for several statements at once, whose tag is only that of the last. It takes what
// stands in a literal for a statement, which costs a connection at worst.
func oneLeavesTraces(sql string) bool {
	for one := range strings.SplitSeq(sql, ";") {
		words := strings.Fields(strings.ToUpper(one))
		if len(words) == 0 {
			continue
		}
		tag := words[0]
		if tag == "DISCARD" || tag == "DEALLOCATE" {
			tag = strings.Join(words, " ")
		}
		if leavesTraces(tag, one) {
			return true
		}
	}
	return false
}

func setsForTransaction(sql string) bool {
	words := strings.Fields(sql[:min(len(sql), 64)])
	return len(words) > 1 && strings.EqualFold(words[0], "set") &&
		(strings.EqualFold(words[1], "local") || strings.EqualFold(words[1], "transaction"))
}
