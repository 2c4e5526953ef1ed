//go:build lab

package rivals

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/lab/known"
)

// A row is what a fault has cost a client, in all runs.
type row struct {
	fault   fault
	client  client
	resumed []time.Duration // from the promotion to the first success after it, by run
	longest []time.Duration // that a worker was without success, by run

	calls, errors, unknown int
	doubled, lost          int // rows there twice; calls acknowledged and not there
	wrong                  int // calls denied and there
	unconfirmed            int // of those unknown: committed, and not confirmed by a synchronous standby
	texts                  map[string]*told
}

// told is how often an error was told, and when the first was, to a call that had begun when: after the promotion.
type told struct {
	times        int
	began, ended time.Duration
}

// A table has the rows of a cluster.
type table struct {
	name string
	rows []*row
}

// row is that of a fault and a client.
func (tab *table) row(f fault, c client) *row {
	for _, r := range tab.rows {
		if r.fault.name == f.name && r.client.name == c.name {
			return r
		}
	}
	r := &row{fault: f, client: c, texts: map[string]*told{}}
	tab.rows = append(tab.rows, r)
	return r
}

// add adds a run: what became of a client's calls since the fault was injected, by what the new primary has.
func (tab *table) add(t *testing.T, f fault, l *load, primary *node, injected, promoted time.Time) {
	t.Helper()
	deeds, r := l.since(injected), tab.row(f, l.client)
	r.time(deeds, injected, promoted)
	r.count(deeds, rowsOf(t, primary, l.client, lowest(deeds)), promoted)
}

// lowest is the first number among the deeds.
func lowest(deeds [workers][]deed) int64 {
	low := int64(-1)
	for _, mine := range deeds {
		if len(mine) > 0 && (low < 0 || mine[0].id < low) {
			low = mine[0].id
		}
	}
	return low
}

// rowsOf counts a client's rows by their number, from one on.
func rowsOf(t *testing.T, primary *node, c client, from int64) map[int64]int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, primary.dsn())
	require.NoError(t, err)
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "select id, count(*) from "+c.table()+" where id >= $1 group by id", from)
	require.NoError(t, err)
	there := map[int64]int{}
	var id int64
	var n int
	_, err = pgx.ForEachRow(rows, []any{&id, &n}, func() error { there[id] = n; return nil })
	require.NoError(t, err)
	return there
}

// time notes how long the client, and the worker of it that had it worst, were without success.
func (r *row) time(deeds [workers][]deed, injected, promoted time.Time) {
	var first time.Time
	var longest time.Duration
	for _, mine := range deeds {
		last := injected
		for _, d := range mine {
			if d.told != known.Acknowledged {
				continue
			}
			longest, last = max(longest, d.ended.Sub(last)), d.ended
			if d.ended.After(promoted) && (first.IsZero() || d.ended.Before(first)) {
				first = d.ended
			}
		}
	}
	if !first.IsZero() {
		r.resumed = append(r.resumed, first.Sub(promoted))
	}
	r.longest = append(r.longest, longest)
}

// count compares what the workers were told with what is there.
func (r *row) count(deeds [workers][]deed, there map[int64]int, promoted time.Time) {
	for _, mine := range deeds {
		r.calls += len(mine)
		for _, d := range mine {
			r.doubled += max(0, there[d.id]-1)
			switch {
			case d.told == known.Acknowledged && there[d.id] == 0:
				r.lost++
			case d.told == known.Denied && there[d.id] > 0:
				r.wrong++
			case d.told == known.Unknown:
				r.unknown++
			}
			if d.err != nil {
				r.errors++
				if d.told == known.Unknown && strings.Contains(d.err.Error(), unconfirmed) {
					r.unconfirmed++
				}
				r.note(d, promoted)
			}
		}
	}
}

// note counts an error by its text.
func (r *row) note(d deed, promoted time.Time) {
	text := changing.ReplaceAllString(d.err.Error(), "…")
	if r.texts[text] == nil {
		r.texts[text] = &told{began: d.began.Sub(promoted), ended: d.ended.Sub(promoted)}
	}
	r.texts[text].times++
}

// unconfirmed is what pgprod says where a server that shuts down has cut the wait for a synchronous standby.
const unconfirmed = "no synchronous standby has confirmed it"

// changing is what differs from one error to another of the same kind.
var changing = regexp.MustCompile(`127\.0\.\d+\.\d+:\d+|\b\d+(\.\d+)?(ms|µs|s)?\b`)

// String is the table in Markdown.
func (tab *table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n| %s, %d runs | client | promotion → success | a worker without success | calls | errors | unknown |"+
		" doubled | lost |\n", tab.name, *runs)
	b.WriteString("|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range tab.rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %d | %d | %d | %d | %d |\n", r.fault.name, r.client.name, span(r.resumed), span(r.longest),
			r.calls, r.errors, r.unknown, r.doubled, r.lost)
	}
	return b.String()
}

// span writes the median and the longest of durations.
func span(all []time.Duration) string {
	if len(all) == 0 {
		return "never"
	}
	sorted := slices.Sorted(slices.Values(all))
	middle, most := sorted[(len(sorted)-1)/2], sorted[len(sorted)-1]
	if len(sorted) == 1 {
		return seconds(most)
	}
	return fmt.Sprintf("%s, at most %s", seconds(middle), seconds(most))
}

func seconds(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// judge prints the table, and fails the test where pgprod hasn't kept its promises.
func (tab *table) judge(t *testing.T) {
	t.Log(tab.String())
	for _, r := range tab.rows {
		if !r.client.pgprod {
			continue
		}
		for text, n := range r.texts {
			t.Logf("%s, %s: %d times, the first from %v to %v after the promotion: %s", r.fault.name, r.client.name, n.times, n.began,
				n.ended, text)
		}
		what := r.fault.name + ", " + r.client.name
		assert.Zero(t, r.lost, "%s: acknowledged and lost", what)
		assert.Zero(t, r.doubled, "%s: there twice", what)
		assert.Zero(t, r.wrong, "%s: denied, and there", what)
		assert.NotEmpty(t, r.resumed, "%s: no success after the promotion", what)
		if r.fault.planned && r.client.direct { // a proxy cuts connections while something runs on them
			assert.Equal(t, r.unconfirmed, r.errors, "%s: errors, other than of commits that no standby has confirmed", what)
		}
	}
}
