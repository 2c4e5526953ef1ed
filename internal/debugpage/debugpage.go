// Package debugpage is the live page for whoever looks at the service at three in the morning: what each pool does and
// what is wrong with it, in one HTML document that needs nothing from elsewhere and works without JavaScript.
//
//	debugpage.go   the handler: what is asked for, and under which headers
//	page.go        the document and its parts, and the policy that lets nothing else run
//	view.go        what the template shows of one pool
//	findings.go    what is wrong, in words
//	statements.go  which statements are shown, in which order
//	chart.go       the chart of the last five minutes
//	format.go      numbers and times for people
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

// A Source is one pool. Its functions are called for every request, of all pools at once.
type Source struct {
	Name     string                                // "": the pool's name in the snapshot
	Snapshot func() activity.Snapshot              // must not wait
	Health   func(context.Context) activity.Health // nil: nobody knows; must end soon after its context
}

// checkTimeout bounds a check: a page about a database that hangs must not hang. It is longer than the check's own limit,
// so that the page can say what hangs.
const checkTimeout = 2500 * time.Millisecond

// Pool is what is known of one pool at the time of a request. ?format=json gives an array of them.
type Pool struct {
	Name     string            `json:"name"`
	Health   activity.Health   `json:"health"`
	Snapshot activity.Snapshot `json:"snapshot"`
}

// Handler serves the page about what sources returns at each request. It may be mounted at any path.
func Handler(sources func() []Source) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serve(w, r, sources) })
}

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
	_, _ = w.Write(body) // if nobody reads it, nobody misses it
}

// render is complete before a byte is written, so that an error can still be told.
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

// collect asks all sources at once. Its goroutines end with their checks, which it waits for.
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

// ask takes the snapshot first, so that the check's own connection isn't in it.
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
	return p
}

// noNulls spares readers of the JSON the difference between null and empty.
func noNulls(s *activity.Snapshot) {
	empty(&s.History)
	empty(&s.Holders)
	empty(&s.Statements)
	empty(&s.Errors)
	empty(&s.Events)
	empty(&s.Settings)
	empty(&s.Warnings)
	if s.Status.Closed == nil {
		s.Status.Closed = map[string]int64{}
	}
}

func empty[T any](s *[]T) {
	if *s == nil {
		*s = []T{}
	}
}
