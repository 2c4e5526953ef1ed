package faulttest

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

var cutCount = flag.Int("cuts", 300, "how many connections TestNoAnswerIsWrongWhereverAConnectionIsCut cuts, of each driver")

// TestNoAnswerIsWrongWhereverAConnectionIsCut cuts connections at random bytes of their streams, while eight workers do deeds,
// and compares what they are told with what has happened.
//
// The same is done to plain pgx. It doesn't say what became of a deed whose connection was lost, so that only what it
// acknowledges can be wrong.
func TestNoAnswerIsWrongWhereverAConnectionIsCut(t *testing.T) {
	t.Parallel()
	seed := *faultSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-seed %d -cuts %d", seed, *cutCount)
	for _, driver := range []string{"pgprod", "pgx"} {
		t.Run(driver, func(t *testing.T) {
			dsn := judgedDatabase(t)
			cutters := make([]*cutter, 8)
			for i := range cutters {
				cutters[i] = newCutter(t, dsn, driver, seed, i)
			}
			var left atomic.Int64
			left.Store(int64(*cutCount))
			start := time.Now()
			var wg sync.WaitGroup
			for _, c := range cutters {
				wg.Go(func() {
					for left.Load() > 0 && !t.Failed() {
						left.Add(-c.step())
					}
				})
			}
			wg.Wait()
			t.Logf("%s: %d cuts in %v", driver, int64(*cutCount)-left.Load(), time.Since(start).Round(time.Millisecond))
			judgeCutters(t, dsn, driver, cutters)
		})
	}
}

// A cutter does deeds on a pool of its own, whose connections it cuts.
type cutter struct {
	t      *testing.T
	plain  bool // the pool is that of plain pgx
	mode   string
	index  int
	rnd    *rand.Rand
	proxy  *faultproxy.Proxy
	db     *sql.DB
	deeds  []deed
	sizes  [][2]int // of deeds: how many bytes pass in each direction
	number int      // of the last work

	mu      sync.Mutex // guards reports
	reports []report
}

func newCutter(t *testing.T, dsn, driver string, seed uint64, index int) *cutter {
	t.Helper()
	c := &cutter{
		t: t, plain: driver == "pgx", mode: execModes[index%len(execModes)], index: index,
		rnd: rand.New(rand.NewPCG(seed, uint64(index))), proxy: faultproxy.StartTB(t, dsn),
		deeds: slices.Concat(deeds, moreDeeds), number: index * 1_000_000,
	}
	size := 1 + index%2
	dsn = with(c.proxy.DSN(), "default_query_exec_mode", c.mode)
	if c.plain {
		c.db = openPgx(t, dsn)
		c.db.SetMaxOpenConns(size)
	} else {
		begin := []string{"lazy", "lazy", "eager"}[index%3]
		c.db = openPool(t, with(dsn, "pool_size", strconv.Itoa(size), "max_overflow", "0", "begin", begin))
	}
	for i, d := range c.deeds {
		var size [2]int
		for _, m := range c.proxy.Transcript(func() { assert.NoError(t, c.do(context.Background(), d, c.work(i)), d.name) }) {
			size[m.Direction] += m.Size
		}
		c.sizes = append(c.sizes, size)
	}
	return c
}

// work returns the next one for the deed with this index. Its statements are new, or those that the deed has had before.
func (c *cutter) work(deed int) work {
	c.number++
	if c.rnd.IntN(2) == 0 {
		return newWork(c.number, c.number)
	}
	return newWork(c.number, deed)
}

func (c *cutter) do(ctx context.Context, d deed, w work) error {
	if c.plain && d.pgx != nil {
		return d.pgx(ctx, c.db, w)
	}
	return d.do(ctx, c.db, w)
}

// report does a deed, and notes what its caller is told.
func (c *cutter) report(ctx context.Context, d deed, w work, how string) {
	err := c.do(ctx, d, w)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reports = append(c.reports, report{d, w, err, fmt.Sprintf("worker %d, %s, %s", c.index, c.mode, how)})
}

// notCut is what is done to the connection of a deed that must succeed.
const notCut = "not cut"

// step does a deed whose connection is cut, and returns how many were. Now and then there is a second cut, which hits what comes
// after the first; another deed at the same time; or a deadline.
func (c *cutter) step() (cuts int64) {
	i := c.rnd.IntN(len(c.deeds))
	if c.rnd.IntN(4) == 0 { // so that the next one finds a connection on which everything is prepared
		c.report(context.Background(), c.deeds[i], c.work(i), notCut)
	}
	planned := []faultproxy.Cut{c.drawCut(i, 0)}
	if c.rnd.IntN(4) == 0 {
		const startup = 300 // bytes of the beginning of another connection, or so
		planned = append(planned, c.drawCut(i, startup))
	}
	how := fmt.Sprintf("%+v", planned)
	ctx, cancel := context.Background(), func() {}
	if c.rnd.IntN(6) == 0 {
		limit := time.Duration(c.rnd.IntN(10_000)) * time.Microsecond
		how += fmt.Sprintf(" within %v", limit)
		ctx, cancel = context.WithTimeout(ctx, limit)
	}
	defer cancel()
	w := c.work(i)

	var armed []*faultproxy.ArmedCut
	for _, cut := range planned {
		armed = append(armed, c.proxy.Arm(cut))
	}
	var beside sync.WaitGroup
	if c.rnd.IntN(4) == 0 {
		other := c.rnd.IntN(len(c.deeds))
		also := c.work(other)
		beside.Go(func() { c.report(context.Background(), c.deeds[other], also, how+" beside "+c.deeds[i].name) })
	}
	c.report(ctx, c.deeds[i], w, how)
	beside.Wait()
	for _, a := range armed {
		if a.Disarm() {
			cuts++
		}
	}
	return cuts
}

// drawCut draws a cut anywhere in a deed, or so many bytes behind it.
func (c *cutter) drawCut(deed, behind int) faultproxy.Cut {
	d := faultproxy.Direction(c.rnd.IntN(2))
	return faultproxy.Cut{
		Direction: d, Bytes: c.rnd.IntN(c.sizes[deed][d] + behind + 1), AtOnce: c.rnd.IntN(2) == 0, End: bothEnds[c.rnd.IntN(2)],
	}
}

// judgeCutters compares what the callers were told with what has happened, and logs how many of each answer there were.
func judgeCutters(t *testing.T, dsn, driver string, cutters []*cutter) {
	t.Helper()
	for _, c := range cutters {
		assert.NoError(t, c.db.Close())
	}
	admin := openPgx(t, dsn)
	const others = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
	pgtest.Eventually(t, patience, func() bool { return get[int](t, admin, others) == 0 }, "what was given up goes on")
	j := newJudge(t, admin)
	figures := map[string]map[string]int{}
	for _, c := range cutters {
		for _, r := range c.reports {
			told := answerOf(r.err)
			switch {
			case c.plain && told != wasDone, r.isEndOfContext():
				told = perhaps // it isn't said otherwise
			case !c.plain && told != wasDone && strings.HasSuffix(r.how, notCut):
				t.Errorf("it failed though nothing was cut: %s", r)
			}
			counted := told.String()
			if told == perhaps && j.rows[r.work.number][1] > 0 {
				counted = "perhaps, and done"
			}
			verdict := j.verdict(r, told)
			if verdict != "" {
				t.Errorf("%s: %s", verdict, r)
				counted = verdict
			}
			for _, name := range []string{r.deed.name, "all"} {
				if figures[name] == nil {
					figures[name] = map[string]int{}
				}
				figures[name][counted]++
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(figures)) {
		t.Logf("%-7s%-34s%v", driver, name, figures[name])
	}
}

// isEndOfContext reports whether database/sql itself has told the caller that its context has ended, perhaps before the driver
// could say more.
func (r report) isEndOfContext() bool {
	return r.err != nil && r.err.Error() == context.DeadlineExceeded.Error()
}
