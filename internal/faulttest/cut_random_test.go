package faulttest

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

var cutCount = flag.Int("cuts", 300, "how many connections TestNoAnswerIsWrongWhereverAConnectionIsCut cuts with each driver")

// cutters is how many goroutines have connections of their own cut at once.
const cutters = 8

// TestNoAnswerIsWrongWhereverAConnectionIsCut cuts connections at random bytes of their streams. The same is done to plain pgx,
// of which a caller can't expect to be told what became of its deed; but it must not be done twice or lost either.
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
			var cutters [cutters]*cutter
			for i := range cutters {
				cutters[i] = newCutter(t, dsn, driver, seed, i)
			}
			start := time.Now()
			left := atomic.Int64{}
			left.Store(int64(*cutCount))
			var wg sync.WaitGroup
			for _, c := range cutters {
				wg.Go(func() {
					for left.Load() > 0 {
						left.Add(-int64(c.step()))
					}
				})
			}
			wg.Wait()
			took := time.Since(start)
			newVerdict(t, dsn, driver, cutters[:], took)
		})
	}
}

// A cutter has one pool, whose connections it cuts while it does deeds.
type cutter struct {
	t      *testing.T
	driver string
	mode   string
	index  int
	rnd    *rand.Rand
	proxy  *faultproxy.Proxy
	db     *sql.DB

	deeds   []deed
	sizes   map[string][2]int // how many bytes pass when a deed is done, by its name and by direction
	number  int               // of the last deed
	cuts    int               // how many there were
	mu      sync.Mutex        // guards reports
	reports []report
}

func newCutter(t *testing.T, dsn, driver string, seed uint64, index int) *cutter {
	t.Helper()
	c := &cutter{
		t: t, driver: driver, mode: execModes[index%len(execModes)], index: index, rnd: rand.New(rand.NewPCG(seed, uint64(index))),
		proxy: faultproxy.StartTB(t, dsn), sizes: map[string][2]int{}, number: index * 1_000_000,
	}
	size := 1 + index%2
	dsn = with(c.proxy.DSN(), "default_query_exec_mode", c.mode)
	if driver == "pgx" {
		c.deeds = deeds
		c.db = openPgx(t, dsn)
		c.db.SetMaxOpenConns(size)
	} else {
		c.deeds = slices.Concat(deeds, moreDeeds)
		begin := []string{"lazy", "lazy", "eager"}[index%3]
		c.db = openPool(t, with(dsn, "pool_size", fmt.Sprint(size), "max_overflow", "0", "begin", begin))
	}
	assert.NoError(t, c.db.Ping())
	for i, d := range c.deeds {
		var sizes [2]int
		for _, m := range c.proxy.Transcript(func() { assert.NoError(t, c.do(context.Background(), d, c.work(i)), d.name) }) {
			sizes[m.Direction] += m.Size
		}
		c.sizes[d.name] = sizes
	}
	return c
}

// work returns a new one for the deed with this index.
func (c *cutter) work(deed int) work {
	c.number++
	if c.rnd.IntN(2) == 0 {
		return newWork(c.number, c.number) // is prepared anew
	}
	return newWork(c.number, deed)
}

func (c *cutter) do(ctx context.Context, d deed, w work) error {
	if c.driver == "pgx" && d.pgx != nil {
		return d.pgx(ctx, c.db, w)
	}
	return d.do(ctx, c.db, w)
}

// step does a deed, whose connection is cut, and now and then that of its repetition, too. It returns how many were cut.
func (c *cutter) step() (cuts int) {
	i := c.rnd.IntN(len(c.deeds))
	d := c.deeds[i]
	if c.rnd.IntN(4) == 0 { // so that the next one finds a connection on which everything is prepared
		c.report(context.Background(), d, c.work(i), "not cut")
	}
	planned := []faultproxy.Cut{c.draw(c.sizes[d.name], 0)}
	if c.rnd.IntN(4) == 0 {
		const startup = 300 // bytes, or so
		planned = append(planned, c.draw(c.sizes[d.name], startup))
	}
	var armed []*faultproxy.ArmedCut
	for _, cut := range planned {
		armed = append(armed, c.proxy.Arm(cut))
	}
	var beside sync.WaitGroup
	if c.rnd.IntN(4) == 0 {
		other := c.rnd.IntN(len(c.deeds))
		w := c.work(other)
		beside.Go(func() {
			c.report(context.Background(), c.deeds[other], w, fmt.Sprintf("beside %s, %+v", d.name, planned))
		})
	}
	ctx, cancel := context.Background(), func() {}
	how := fmt.Sprintf("%+v", planned)
	if c.rnd.IntN(6) == 0 {
		limit := time.Duration(c.rnd.IntN(10_000)) * time.Microsecond
		ctx, cancel = context.WithTimeout(ctx, limit)
		how += fmt.Sprintf(", deadline %v", limit)
	}
	c.report(ctx, d, c.work(i), how)
	cancel()
	beside.Wait()
	for _, a := range armed {
		if a.Disarm() {
			cuts++
		}
	}
	c.cuts += cuts
	return cuts
}

// report does a deed and notes what its caller is told.
func (c *cutter) report(ctx context.Context, d deed, w work, how string) {
	err := c.do(ctx, d, w)
	how = fmt.Sprintf("cutter %d, %s, %s", c.index, c.mode, how)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reports = append(c.reports, report{d, w, err, how})
}

// draw returns a cut anywhere in a deed of which so many bytes pass in each direction, and so many more.
func (c *cutter) draw(sizes [2]int, more int) faultproxy.Cut {
	cut := faultproxy.Cut{Direction: faultproxy.Direction(c.rnd.IntN(2)), End: bothEnds[c.rnd.IntN(2)], AtOnce: c.rnd.IntN(2) == 0}
	cut.Bytes = c.rnd.IntN(sizes[cut.Direction] + more + 1)
	return cut
}

// newVerdict compares what the callers were told with what has happened, and logs the figures.
func newVerdict(t *testing.T, dsn, driver string, all []*cutter, took time.Duration) {
	t.Helper()
	for _, c := range all {
		assert.NoError(t, c.db.Close())
	}
	admin := openPgx(t, dsn)
	pgtest.Eventually(t, patience, func() bool {
		return get[int](t, admin, "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()") == 0
	})
	j := newJudge(t, admin)
	answers := map[string]map[string]int{}
	wrong := map[string]int{}
	cuts := 0
	for _, c := range all {
		cuts += c.cuts
		for _, r := range c.reports {
			told := answerOf(r.err)
			if driver == "pgx" && told != wasDone && !isRefusal(r.err) {
				told = perhaps // it says nothing of that
			}
			verdict := j.verdict(r, told)
			if r.err == context.DeadlineExceeded { // database/sql has said so before the driver could
				verdict = j.verdict(r, perhaps)
			}
			if verdict == "" && told != wasDone && driver == "pgprod" && strings.HasSuffix(r.how, "not cut") {
				verdict = "failed without a cut"
			}
			if verdict != "" {
				wrong[verdict]++
				t.Errorf("%s: %s", verdict, r)
			}
			if answers[r.deed.name] == nil {
				answers[r.deed.name] = map[string]int{}
			}
			answers[r.deed.name][told.String()]++
		}
	}
	t.Logf("%s: %d cuts in %v, wrong: %v", driver, cuts, took.Round(time.Millisecond), wrong)
	var lines []string
	for _, d := range all[0].deeds {
		lines = append(lines, fmt.Sprintf("%-30s %v", d.name, answers[d.name]))
	}
	t.Log("\n" + strings.Join(lines, "\n"))
}
