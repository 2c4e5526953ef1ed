package faulttest

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"flag"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

var (
	ledgerDuration = flag.Duration("duration", 0,
		"how long TestLedger runs (default 30s, with -short 15s); beyond 10m give -timeout 0 as well")
	faultSeed = flag.Uint64("seed", 0, "seed of the random faults, of TestLedger and others (default: random)")
)

const (
	ledgerWorkers  = 16
	ledgerAccounts = 50
	ledgerBalance  = 1000
)

// outcome is what a caller knows of its transfer.
type outcome byte

const (
	refused outcome = iota
	acknowledged
	unknown
)

// A teller makes transfers, one after the other. Their numbers are its own: number*ledgerWorkers + its index.
type teller struct {
	index    int
	rnd      *rand.Rand
	outcomes []outcome // by number
}

// A ledger is the database, the tellers, and what stands between them.
type ledger struct {
	t      *testing.T
	server *pgtest.Server
	proxy  *faultproxy.Proxy
	db     *sql.DB
	rnd    *rand.Rand // of the faults

	tellers []*teller
	acks    atomic.Int64

	mu     sync.Mutex // guards errors
	errors map[string]int
}

func newLedger(t *testing.T, seed uint64) *ledger {
	t.Helper()
	// The server must not lose what it has acknowledged when its processes are killed. For that a COMMIT has to wait until
	// the kernel has the log, which synchronous_commit does; fsync would be for the kernel's own end. A write that a kill
	// tears in two is mended by full_page_writes.
	server := pgtest.StartTB(t, pgtest.Config{Settings: map[string]string{
		"synchronous_commit": "on", "full_page_writes": "on", "deadlock_timeout": "50ms",
	}})
	admin := newClient(t, server.DSN(""))
	admin.do("create table accounts (id int primary key, amount int not null)")
	admin.do("insert into accounts select i, $2 from generate_series(1, $1) i", ledgerAccounts, ledgerBalance)
	// No key: a transfer that was made twice shall be seen.
	admin.do("create table transfers (id bigint not null, src int not null, dst int not null, amount int not null)")
	require.NoError(t, admin.Close())

	l := &ledger{t: t, server: server, proxy: faultproxy.StartTB(t, server.DSN("")), errors: map[string]int{}}
	l.rnd = rand.New(rand.NewPCG(seed, 0))
	for i := range ledgerWorkers {
		l.tellers = append(l.tellers, &teller{index: i, rnd: rand.New(rand.NewPCG(seed, uint64(i+1)))})
	}
	l.db = openPool(t, l.proxy.DSN(), pgprod.WithCommandTimeout(time.Second), pgprod.WithConnectTimeout(2*time.Second),
		pgprod.WithPoolSize(10), pgprod.WithMaxOverflow(4), pgprod.WithPoolRecycle(5*time.Second))
	return l
}

// transfer makes one of a teller's transfers, in one of the ways in which programs do it.
func (l *ledger) transfer(w *teller) {
	id := len(w.outcomes)*ledgerWorkers + w.index
	src, dst, amount := 1+w.rnd.IntN(ledgerAccounts), 1+w.rnd.IntN(ledgerAccounts), 1+w.rnd.IntN(9)
	ctx, cancel := context.Background(), func() {}
	if w.rnd.IntN(10) == 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(1+w.rnd.IntN(50))*time.Millisecond)
	}
	defer cancel()
	move := func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "insert into transfers values ($1, $2, $3, $4)", id, src, dst, amount); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "update accounts set amount = amount - $2 where id = $1", src, amount); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "update accounts set amount = amount + $2 where id = $1", dst, amount)
		return err
	}
	var err error
	if w.rnd.IntN(2) == 0 {
		err = pgprod.InTx(ctx, l.db, move)
	} else {
		err = plainTx(ctx, l.db, move)
	}
	switch {
	case err == nil:
		w.outcomes = append(w.outcomes, acknowledged)
		l.acks.Add(1)
	case errors.Is(err, pgprod.ErrCommitUnknown):
		w.outcomes = append(w.outcomes, unknown)
	default:
		w.outcomes = append(w.outcomes, refused)
	}
	l.note(err)
}

func plainTx(ctx context.Context, db *sql.DB, move func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := move(tx); err != nil {
		_ = tx.Rollback()
		return err
	}
	return tx.Commit()
}

// note counts an error by its kind.
func (l *ledger) note(err error) {
	if err == nil {
		return
	}
	kind := "other: " + err.Error()
	switch {
	case errors.Is(err, pgprod.ErrPoolTimeout):
		kind = "pool timeout"
	case errors.Is(err, pgprod.ErrCommitUnknown):
		kind = "commit unknown"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, sql.ErrTxDone): // which is said of a transaction whose time was up
		kind = "deadline"
	case sqlState(err) != "":
		kind = "SQLSTATE " + sqlState(err)
	case strings.Contains(err.Error(), "COMMIT was not sent"):
		kind = "COMMIT not sent"
	case strings.Contains(err.Error(), "connection was lost after"):
		kind = "lost after sending"
	case strings.Contains(err.Error(), "connection was lost before"), strings.Contains(err.Error(), "conn closed"):
		kind = "lost before sending"
	}
	requireHonest(l.t, err)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errors[kind]++
}

// pause waits for a time up to longest, which is part of the load and not a synchronisation.
func (l *ledger) pause(longest time.Duration) {
	timer := time.NewTimer(time.Duration(l.rnd.Int64N(int64(longest))))
	defer timer.Stop()
	<-timer.C
}

func (l *ledger) end() faultproxy.End {
	return []faultproxy.End{faultproxy.FIN, faultproxy.RST}[l.rnd.IntN(2)]
}

// ledgerFault does harm and repairs it.
type ledgerFault struct {
	name   string
	inject func(l *ledger, ctx context.Context) error
}

var ledgerFaults = []ledgerFault{
	{"terminate all", func(l *ledger, ctx context.Context) error { return l.server.TerminateAll(ctx) }},
	{"terminate some", func(l *ledger, ctx context.Context) error {
		backends, err := l.server.Backends(ctx)
		for _, b := range backends {
			if l.rnd.IntN(3) == 0 {
				err = errors.Join(err, l.server.Terminate(ctx, b.PID))
			}
		}
		return err
	}},
	{"restart fast", func(l *ledger, ctx context.Context) error { return l.server.Restart(ctx, pgtest.Fast) }},
	{"restart immediate", func(l *ledger, ctx context.Context) error { return l.server.Restart(ctx, pgtest.Immediate) }},
	{"crash", func(l *ledger, ctx context.Context) error {
		if err := l.server.Crash(); err != nil {
			return err
		}
		l.pause(300 * time.Millisecond)
		return l.server.Resume(ctx)
	}},
	{"freeze", func(l *ledger, _ context.Context) error {
		if err := l.server.Freeze(); err != nil {
			return err
		}
		l.pause(2500 * time.Millisecond) // command_timeout is 1 s
		return l.server.Thaw()
	}},
	{"cut all", func(l *ledger, _ context.Context) error { l.proxy.CloseAll(l.end()); return nil }},
	{"half-close", func(l *ledger, _ context.Context) error {
		for _, c := range l.proxy.Conns() {
			if l.rnd.IntN(2) == 0 {
				_ = c.HalfClose() // it may have ended
			}
		}
		return nil
	}},
	{"swallow COMMIT's reply", func(l *ledger, _ context.Context) error {
		l.proxy.SwallowReply(l.end(), 1+l.rnd.IntN(5), faultproxy.Containing("commit"))
		l.pause(200 * time.Millisecond)
		return nil
	}},
	{"swallow any reply", func(l *ledger, _ context.Context) error {
		l.proxy.SwallowReply(l.end(), 1+l.rnd.IntN(10), nil)
		l.pause(200 * time.Millisecond)
		return nil
	}},
	{"hold COMMIT's reply", func(l *ledger, _ context.Context) error {
		l.proxy.SwallowReply(faultproxy.Hold, 1+l.rnd.IntN(3), faultproxy.Containing("commit"))
		l.pause(1500 * time.Millisecond)
		return nil
	}},
	{"cut before the server", func(l *ledger, _ context.Context) error {
		l.proxy.Inject(faultproxy.Rule{Times: 1 + l.rnd.IntN(10), Unsent: true, End: l.end()})
		l.pause(200 * time.Millisecond)
		return nil
	}},
	{"latency", func(l *ledger, _ context.Context) error {
		l.proxy.SetLatency(faultproxy.ToServer, time.Duration(l.rnd.IntN(30))*time.Millisecond)
		l.proxy.SetLatency(faultproxy.ToClient, time.Duration(l.rnd.IntN(30))*time.Millisecond)
		l.pause(500 * time.Millisecond)
		return nil
	}},
	{"refuse connects", func(l *ledger, _ context.Context) error {
		if err := l.proxy.Refuse(); err != nil {
			return err
		}
		l.proxy.CloseAll(l.end())
		l.pause(500 * time.Millisecond)
		return l.proxy.Admit()
	}},
	{"silent connects", func(l *ledger, _ context.Context) error {
		l.proxy.SilenceNew(true)
		l.proxy.CloseAll(l.end())
		l.pause(500 * time.Millisecond)
		return nil
	}},
	{"black hole", func(l *ledger, _ context.Context) error {
		l.proxy.BlackHole(faultproxy.Direction(l.rnd.IntN(2)), true)
		l.pause(1500 * time.Millisecond)
		l.proxy.CloseAll(faultproxy.RST) // what was swallowed is lost: nobody may get the rest of it
		return nil
	}},
}

// heal ends what an injected fault has left behind.
func (l *ledger) heal() {
	l.proxy.ClearRules()
	for _, d := range []faultproxy.Direction{faultproxy.ToServer, faultproxy.ToClient} {
		l.proxy.SetLatency(d, 0)
		l.proxy.BlackHole(d, false)
	}
	l.proxy.SilenceNew(false)
}

// recovered waits until the tellers get on again, and returns how long that took.
func (l *ledger) recovered() time.Duration {
	l.t.Helper()
	healed, target := time.Now(), l.acks.Load()+ledgerWorkers
	pgtest.Eventually(l.t, patience, func() bool { return l.acks.Load() >= target }, "no transfers after the fault")
	return time.Since(healed)
}

// faultRecord is what the log says of a fault in the end.
type faultRecord struct {
	times   int
	slowest time.Duration
}

// vital is what must stay flat.
type vital struct {
	goroutines int
	heap       uint64
	backends   int
}

func (l *ledger) sample() (v vital) {
	l.proxy.Reset() // its statistics hold every statement
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	backends, err := l.server.Backends(context.Background())
	require.NoError(l.t, err)
	return vital{goroutines: runtime.NumGoroutine(), heap: m.HeapAlloc, backends: len(backends)}
}

func TestLedger(t *testing.T) {
	duration, seed := *ledgerDuration, *faultSeed
	if duration == 0 {
		duration = 30 * time.Second
		if testing.Short() {
			duration = 15 * time.Second
		}
	}
	if deadline, ok := t.Deadline(); ok && time.Until(deadline) < duration+time.Minute {
		t.Fatalf("-duration %v needs a longer -timeout than go test's 10m: give -timeout 0", duration)
	}
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-seed %d -duration %v", seed, duration)
	l := newLedger(t, seed)
	load := startCrowd(t, ledgerWorkers, func(worker int) error {
		l.transfer(l.tellers[worker])
		return nil // a crowd keeps all errors, which would be what grows in a soak
	})
	records, vitals := l.harm(duration)
	load.finish()
	l.report(records, duration)
	requireFlat(t, vitals)
	require.NoError(t, l.db.Close())
	l.audit()
}

// harm injects faults for a while, all kinds in turn in an order that the seed decides.
func (l *ledger) harm(duration time.Duration) (map[string]faultRecord, []vital) {
	records := map[string]faultRecord{}
	l.recovered()
	vitals := []vital{}
	begin, sampled := time.Now(), time.Time{}
	for time.Since(begin) < duration {
		for _, i := range l.rnd.Perm(len(ledgerFaults)) {
			if time.Since(begin) >= duration {
				break
			}
			fault := ledgerFaults[i]
			require.NoError(l.t, fault.inject(l, context.Background()), fault.name)
			l.heal()
			took := l.recovered()
			r := records[fault.name]
			records[fault.name] = faultRecord{r.times + 1, max(r.slowest, took)}
			if time.Since(sampled) > duration/20 {
				vitals, sampled = append(vitals, l.sample()), time.Now()
			}
			l.pause(100 * time.Millisecond)
		}
	}
	return records, append(vitals, l.sample())
}

func (l *ledger) report(records map[string]faultRecord, duration time.Duration) {
	counts := map[outcome]int{}
	for _, w := range l.tellers {
		for _, o := range w.outcomes {
			counts[o]++
		}
	}
	l.t.Logf("%d transfers acknowledged (%.0f a second), %d refused, %d unknown", counts[acknowledged],
		float64(counts[acknowledged])/duration.Seconds(), counts[refused], counts[unknown])
	for name, r := range records {
		l.t.Logf("%-24s %3d times, slowest recovery (%d transfers after its end) %v", name, r.times, ledgerWorkers,
			r.slowest.Round(time.Millisecond))
	}
	for kind, n := range l.errors {
		l.t.Logf("%6d errors: %s", n, kind)
	}
	s := statusOf(l.t, l.db)
	l.t.Logf("connections closed: %v, failed dials: %d", s.Closed, s.FailedConnects)
	for _, kind := range []string{"pool timeout", "SQLSTATE 57P03", "SQLSTATE 53300"} {
		assert.Zero(l.t, l.errors[kind], "%s: no outage lasted as long as pool_timeout", kind)
	}
}

// requireFlat compares the middle of the first half of the samples with that of the second, and leaves room: the faults
// before a sample differ.
func requireFlat(t *testing.T, vitals []vital) {
	t.Helper()
	median := func(vs []vital, of func(vital) int) int {
		var all []int
		for _, v := range vs {
			all = append(all, of(v))
		}
		slices.SortFunc(all, cmp.Compare[int])
		return all[len(all)/2]
	}
	half := (len(vitals) + 1) / 2
	for name, c := range map[string]struct {
		of   func(vital) int
		room int
	}{
		"goroutines":           {func(v vital) int { return v.goroutines }, 100},
		"heap in kB":           {func(v vital) int { return int(v.heap >> 10) }, 16 << 10},
		"server's connections": {func(v vital) int { return v.backends }, 14},
	} {
		before, after := median(vitals[:half], c.of), median(vitals[half-1:], c.of)
		t.Logf("%s: %d in the first half of %d samples, %d in the second", name, before, len(vitals), after)
		assert.LessOrEqual(t, after, before+c.room, name)
	}
}

// audit compares what the tellers know with what the database holds.
func (l *ledger) audit() {
	t := l.t
	pgtest.Eventually(t, patience, func() bool { // a statement that its caller gave up may still run
		backends, err := l.server.Backends(context.Background())
		return err == nil && len(backends) == 0
	}, "all connections are gone")
	c := newClient(t, l.server.DSN(""))
	made := map[int64]int{}
	rows, err := c.Query("select id from transfers")
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id int64
		require.NoError(t, rows.Scan(&id))
		made[id]++
	}
	require.NoError(t, rows.Err())
	var lost, doubled, undead, happened int
	for _, w := range l.tellers {
		for number, o := range w.outcomes {
			n := made[int64(number*ledgerWorkers+w.index)]
			switch {
			case n > 1:
				doubled++
			case o == acknowledged && n == 0:
				lost++
			case o == refused && n != 0:
				undead++
			case o == unknown && n != 0:
				happened++
			}
		}
	}
	assert.Zero(t, lost, "acknowledged, and not there")
	assert.Zero(t, doubled, "there twice")
	assert.Zero(t, undead, "refused, and there")
	t.Logf("%d of the unknown ones were made", happened)
	assert.Equal(t, ledgerAccounts*ledgerBalance, c.count(total))
	assert.Zero(t, c.count(`select count(*) from accounts a where amount <> $1
		- (select coalesce(sum(amount), 0) from transfers where src = a.id)
		+ (select coalesce(sum(amount), 0) from transfers where dst = a.id)`, ledgerBalance))
}
