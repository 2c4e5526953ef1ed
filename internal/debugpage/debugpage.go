// Package debugpage serves the live page, for the person on call: what each pool does and what is wrong with it, in one HTML
// document that loads nothing from elsewhere and works without JavaScript.
//
//	debugpage.go   the handler: asks the sources, and answers with HTML or JSON
//	page.go        the document, and the headers that let nothing else run in it
//	view.go        what the template shows of one pool
//	findings.go    what is wrong with a pool, in words
//	hosts.go       the table of hosts
//	blocking.go    who waits for whom, and what was slow
//	statements.go  the table of statements, and its order
//	chart.go       the chart of the last five minutes
//	format.go      numbers and times as text
package debugpage

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/pgprod/pgprod/internal/activity"
)

// A Source tells about one pool. Its functions are called for each request, those of all Sources at the same time, and must
// be safe for concurrent use.
type Source struct {
	Name     string                                // "": the name in the snapshot
	Snapshot func() activity.Snapshot              // must not wait; nil: there is none
	Health   func(context.Context) activity.Health // must return soon after its context has ended; nil: it isn't known
}

// checkTimeout limits the checks for a page, since a page about a database that hangs must not hang itself. It is longer
// than the check's own limit, so that the check's result arrives in time.
const checkTimeout = 2500 * time.Millisecond

// A Pool is what is known of one pool at the time of a request. ?format=json returns an array of them.
type Pool struct {
	Name     string            `json:"name"`
	Health   activity.Health   `json:"health"`
	Findings []finding         `json:"findings"` // what is wrong, the most urgent first
	Snapshot activity.Snapshot `json:"snapshot"`
}

// Handler returns a handler that serves the page. It calls sources for each request. It may be mounted at any path, and is
// safe for concurrent use.
func Handler(sources func() []Source) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serve(w, r, sources) })
}

// serve answers one request.
func serve(w http.ResponseWriter, r *http.Request, sources func() []Source) {
	h := w.Header()
	harden(h)
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	pools := collect(r.Context(), sources())
	query := r.URL.Query()
	body, contentType, err := render(pools, query.Get("format"), query.Get("sort"))
	if err != nil {
		http.Error(w, "the page can't be made: "+err.Error(), http.StatusInternalServerError)
		return
	}
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // an error means that the client has gone
}

// render returns the whole answer. It is made before a byte is written, so that an error can still become the answer.
func render(pools []Pool, format, sort string) (body []byte, contentType string, err error) {
	var b bytes.Buffer
	if format == "json" {
		e := json.NewEncoder(&b)
		e.SetIndent("", "  ")
		err = e.Encode(pools)
		return b.Bytes(), "application/json", err
	}
	err = templates().ExecuteTemplate(&b, "page.html", newPage(pools, orderOf(sort)))
	return b.Bytes(), "text/html; charset=utf-8", err
}

// collect asks all sources at the same time. Its goroutines end with their checks, for which it waits.
func collect(ctx context.Context, sources []Source) []Pool {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	pools := make([]Pool, len(sources))
	var all sync.WaitGroup
	for i, s := range sources {
		all.Go(func() { pools[i] = s.ask(ctx) })
	}
	all.Wait()
	return pools
}

// ask asks one source. The snapshot comes first, so that what the check does isn't in it.
func (s Source) ask(ctx context.Context) Pool {
	p := Pool{Name: s.Name}
	if s.Snapshot != nil {
		p.Snapshot = s.Snapshot()
	}
	if p.Snapshot.At.IsZero() {
		p.Snapshot.At = time.Now()
	}
	if s.Health != nil {
		p.Health = s.Health(ctx)
	}
	if p.Name == "" {
		p.Name = p.Snapshot.Status.PoolName
	}
	noNulls(&p.Snapshot)
	p.Findings = findings(&p)
	empty(&p.Findings)
	return p
}

// noNulls makes nil slices and maps empty, so that the JSON has [] and {} for them and not null.
func noNulls(s *activity.Snapshot) {
	empty(&s.Status.Hosts)
	empty(&s.History)
	empty(&s.Holders)
	empty(&s.Statements)
	empty(&s.Repeated)
	empty(&s.Blocking)
	empty(&s.Slow)
	empty(&s.Errors)
	empty(&s.Events)
	empty(&s.Settings)
	empty(&s.Warnings)
	for _, counts := range []*map[string]int64{&s.BegunAgain, &s.Status.Closed} {
		if *counts == nil {
			*counts = map[string]int64{}
		}
	}
}

// empty makes a nil slice an empty one.
func empty[T any](s *[]T) {
	if *s == nil {
		*s = []T{}
	}
}
