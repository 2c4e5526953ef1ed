package link

import (
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
