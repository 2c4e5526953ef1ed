package pgtest

import (
	"net/url"
	"strings"
)

// With adds keys and values to a DSN that is a URL, as DSN and NewDatabase return it. It panics if the DSN is none.
func With(dsn string, keysAndValues ...string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		panic("not a URL")
	}
	query := u.Query()
	for i := 0; i < len(keysAndValues); i += 2 {
		query.Set(keysAndValues[i], keysAndValues[i+1])
	}
	u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20") // pgx takes a + as it is, and not for a space
	return u.String()
}
