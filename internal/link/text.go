package link

import (
	"strings"

	"github.com/pgprod/pgprod/internal/sqlsummary"
)

// isOne reports whether a text is seen at once to be no more than one statement.
func isOne(sql string) bool {
	i := strings.IndexByte(sql, ';')
	return i < 0 || strings.TrimSpace(sql[i+1:]) == ""
}

// CopiesIn reports whether a statement makes the server wait for rows that database/sql has no way to send: pgx would
// wait with it. Most texts are one statement, whose first letters tell that it is no COPY.
func CopiesIn(query string) bool {
	return !(beginsOtherwise(query) && isOne(query)) && sqlsummary.CopiesIn(query)
}

// beginsOtherwise reports whether a text begins with another word than COPY. False says nothing.
func beginsOtherwise(query string) bool {
	const first = "copy"
	query = opening(query)
	return len(query) >= len(first) && query[0] >= 'A' && (query[0]|0x20 != 'c' || !strings.EqualFold(query[:len(first)], first))
}

// opening is a text without the white space and the lines of comment that programs like to put in front of it.
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
