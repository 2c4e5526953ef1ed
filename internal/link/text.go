package link

import (
	"slices"
	"strings"

	"github.com/pgprod/pgprod/internal/sqlsummary"
)

// isSingle reports whether a text is certainly no more than one statement. It is a quick look: a semicolon within a literal
// or a comment makes it report false.
func isSingle(sql string) bool {
	i := strings.IndexByte(sql, ';')
	return i < 0 || strings.TrimSpace(sql[i+1:]) == ""
}

// CopiesIn reports whether a text contains a COPY … FROM STDIN. The server would wait for rows, which database/sql has no
// way to send, and pgx would wait for the server. Most texts are a single statement whose first letters show that it is no
// COPY.
func CopiesIn(query string) bool {
	return !(beginsOtherwise(query) && isSingle(query)) && sqlsummary.CopiesIn(query)
}

// beginsOtherwise reports whether a text certainly begins with another word than COPY. If it reports false, it may begin
// with any.
func beginsOtherwise(query string) bool {
	const first = "copy"
	query = opening(query)
	return len(query) >= len(first) && query[0] >= 'A' && (query[0]|0x20 != 'c' || !strings.EqualFold(query[:len(first)], first))
}

// opening returns a text without the white space and the line comments in front of it. It leaves comments in /* */.
func opening(query string) string {
	for query != "" {
		switch c := query[0]; {
		case c == ' ' || '\t' <= c && c <= '\r':
			query = query[1:]
		case strings.HasPrefix(query, "--"):
			_, query, _ = strings.Cut(query, "\n")
		default:
			return query
		}
	}
	return query
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
