package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod"
)

// failures are the errors of the users' requests; those of the demos aren't among them. It is safe for concurrent use.
type failures struct {
	mu      sync.Mutex // guards what follows
	n       int
	first   []string       // the first different texts, up to mostTexts
	counts  map[string]int // how often, by text
	reasons map[string]int // how often, by reason
}

// mostTexts is how many different texts are kept.
const mostTexts = 5

// add adds the error of a request of this kind.
func (f *failures) add(kind string, err error) {
	why := reason(err)
	text := kind + ": " + why
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	if f.reasons == nil {
		f.counts, f.reasons = map[string]int{}, map[string]int{}
	}
	f.reasons[why]++
	if f.counts[text] == 0 {
		if len(f.first) == mostTexts {
			return
		}
		f.first = append(f.first, text)
	}
	f.counts[text]++
}

// reason is the text of an error without what differs among errors of the same kind.
func reason(err error) string {
	var server *pgconn.PgError
	switch {
	case errors.Is(err, pgprod.ErrPoolTimeout):
		return "ErrPoolTimeout: no connection became free within pool_timeout"
	case errors.Is(err, pgprod.ErrCommitUnknown):
		return "ErrCommitUnknown: the outcome of COMMIT is unknown"
	case errors.As(err, &server):
		return server.Severity + " " + server.Code + ": " + server.Message
	case errors.Is(err, context.DeadlineExceeded):
		return "deadline exceeded: " + oneLine(err)
	}
	return oneLine(err)
}

// byReason lists the reasons, one a line, the most frequent first.
func (f *failures) byReason() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	reasons := slices.SortedFunc(maps.Keys(f.reasons), func(a, b string) int {
		return cmp.Or(cmp.Compare(f.reasons[b], f.reasons[a]), cmp.Compare(a, b))
	})
	text := ""
	for _, r := range reasons {
		text += fmt.Sprintf("%s× %s\n", thousands(int64(f.reasons[r])), r)
	}
	return text
}

// count returns how many errors there were.
func (f *failures) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// String lists the texts, one a line. It follows the list of demos in the report, hence its answer if there are none.
func (f *failures) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n == 0 {
		return "none but those\n"
	}
	text, shown := "", 0
	for _, t := range f.first {
		text += fmt.Sprintf("%s× %s\n", thousands(int64(f.counts[t])), t)
		shown += f.counts[t]
	}
	if f.n > shown {
		text += fmt.Sprintf("%s more\n", thousands(int64(f.n-shown)))
	}
	return text
}
