package dashboards

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

const (
	scrapes  = 30 // half an hour
	patience = 20 * time.Second
)

// A story is what a program does with its pool.
type story struct {
	name    string
	options []pgprod.Option
	server  func(u *url.URL) // changes where the pool leads
	proxied bool             // the pool's connections pass through a proxy, which can lose replies
	cluster bool             // the pool has two hosts: a server of its own, and a standby of that
	// round is what the program does before the scrape of that number.
	round  func(p *program, n int) error
	alerts []string // that it causes, and no others
	over   []string // those of them that don't fire any more at the end
}

// stories are told side by side. The first seven cause no alert; each of the others shows one kind of trouble.
var stories = []story{
	{name: "healthy", options: append(size(4, 2), pgprod.WithPreflight(true)), round: healthy},
	{name: "idle", options: size(2, 0), round: func(*program, int) error { return nil }},
	{name: "seldom failing", options: size(2, 0), round: func(p *program, n int) error {
		if n == 5 || n == 6 {
			return p.refused("SELECT * FROM nowhere", "42P01")
		}
		return nil
	}},
	{name: "seldom late", options: append(size(1, 0), pgprod.WithPoolTimeout(time.Second)),
		round: func(p *program, n int) error {
			switch n {
			case 0:
				return errors.Join(p.dial(), p.slow(1, 0))
			case 10:
				return errors.Join(p.hold(), p.timeOut(1), p.release())
			case 20:
				return p.slow(1, 1.1)
			}
			return nil
		}},
	{name: "without limit", options: size(1, -1), round: func(p *program, n int) error {
		if n < 3 {
			return p.hold()
		}
		return p.ordinary()
	}},
	{name: "conflicting", options: size(4, 0), round: func(p *program, n int) error {
		if n%10 == 5 {
			return errors.Join(p.ordinary(), p.conflict())
		}
		return p.ordinary()
	}},
	{name: "of two hosts", options: size(2, 0), server: func(u *url.URL) { u.Host += ",localhost:" + u.Port() },
		round: func(p *program, _ int) error { return p.ordinary() }},
	{name: "full", options: size(2, 0), alerts: []string{"PgprodDegraded", "PgprodPoolNearlyFull"},
		round: func(p *program, n int) (err error) {
			if n == 0 {
				p.beside, err = p.open("another pool of a full program", size(2, 0)...)
				return errors.Join(err, p.hold(), p.hold())
			}
			_, err = p.beside.ExecContext(p.ctx, "SELECT id FROM items")
			return errors.Join(err, p.checks("degraded"))
		}},
	{name: "waited for", options: size(1, 0), alerts: []string{"PgprodCallersWait", "PgprodPoolNearlyFull"},
		round: func(p *program, n int) error {
			if n == 0 {
				return errors.Join(p.hold(), p.wait())
			}
			return nil
		}},
	{name: "slow to lend", options: size(1, 0), alerts: []string{"PgprodWaitsLong"}, round: func(p *program, n int) error {
		if n == 4 || n == 8 {
			return errors.Join(p.hold(), p.wait(), p.sleep(600*time.Millisecond), p.release(), p.ordinary())
		}
		return p.ordinary()
	}},
	{name: "timed out", options: append(size(1, 0), pgprod.WithPoolTimeout(time.Second)),
		alerts: []string{"PgprodPoolTimeouts", "PgprodPoolTimeoutsLast"}, over: []string{"PgprodPoolTimeouts"},
		round: func(p *program, n int) error {
			switch n {
			case 0:
				return p.dial()
			case 10:
				return errors.Join(p.hold(), p.timeOut(10), p.release())
			}
			return nil
		}},
	{name: "timed out now and then", options: append(size(1, 0), pgprod.WithPoolTimeout(time.Second)),
		alerts: []string{"PgprodPoolTimeoutsLast"}, round: func(p *program, n int) error {
			if n == 0 {
				return p.dial()
			}
			var err error
			for range 20 {
				err = errors.Join(err, p.ordinary())
			}
			if n == 10 {
				err = errors.Join(err, p.hold(), p.timeOut(7), p.release())
			}
			return err
		}},
	{name: "cut off", server: func(u *url.URL) { u.Host = "127.0.0.1:1" },
		alerts: []string{"PgprodCallersWait", "PgprodConnectFailures", "PgprodNoConnections", "PgprodUnhealthy"},
		round: func(p *program, n int) error {
			if err := p.checks("unhealthy"); err != nil {
				return err
			}
			switch n {
			case 2:
				return p.wait()
			case 4:
				before, err := pgprod.Status(p.db)
				return errors.Join(err, p.until(func(s pgprod.PoolStatus) bool { return s.FailedConnects > before.FailedConnects }))
			}
			return nil
		}},
	{name: "turned away", options: size(2, 0), server: func(u *url.URL) { u.Path += "_missing" },
		alerts: []string{"PgprodConnectFailures"}, round: func(p *program, n int) error {
			if n == 5 && p.db.PingContext(p.ctx) == nil {
				return errors.New("the database is there")
			}
			return nil
		}},
	{name: "without a second host", options: size(2, 0), server: func(u *url.URL) { u.Host = "127.0.0.1:1," + u.Host },
		alerts: []string{"PgprodHostDown"}, round: func(p *program, _ int) error { return p.ordinary() }},
	{name: "with two primaries", options: size(2, 0), cluster: true, alerts: []string{"PgprodHostDeposed"},
		round: func(p *program, n int) error {
			if n == 0 {
				return errors.Join(p.ordinary(), p.standby.Promote(p.ctx), p.until(func(s pgprod.PoolStatus) bool {
					return s.Hosts[0].Role == "deposed" // which is looked for every ten seconds
				}))
			}
			return p.ordinary()
		}},
	{name: "robbed", options: size(2, 0), alerts: []string{"PgprodConnectionsInvalidated"},
		round: func(p *program, n int) error {
			if n%2 == 0 && n < 20 {
				return errors.Join(p.ordinary(), p.restart())
			}
			return p.ordinary()
		}},
	{name: "leaking", options: append(size(2, 0), pgprod.WithLeakDetection(20*time.Millisecond)), alerts: []string{"PgprodLeaks"},
		round: func(p *program, n int) error {
			if n == 5 {
				return errors.Join(p.hold(), p.sleep(30*time.Millisecond), p.release())
			}
			return p.ordinary()
		}},
	{name: "in doubt", options: size(2, 0), proxied: true, alerts: []string{"PgprodCommitUnknown"},
		round: func(p *program, n int) error {
			if n == 5 {
				return errors.Join(p.loseCommit(), p.ordinary())
			}
			return p.ordinary()
		}},
	{name: "too small", options: size(1, 12), alerts: []string{"PgprodPoolOverflows"},
		round: func(p *program, _ int) (err error) {
			for range 13 {
				err = errors.Join(err, p.hold())
			}
			return errors.Join(err, p.release())
		}},
	{name: "too many", options: append(size(500, 0), pgprod.WithPreflight(true)), proxied: true, alerts: []string{"PgprodFleetTooLarge"},
		round: func(p *program, n int) error {
			if n == 0 {
				return errors.Join(p.ordinary(), p.preflight())
			}
			return p.ordinary()
		}},
	{name: "failing now and then", options: size(2, 0), alerts: []string{"PgprodErrorShareLasts"},
		round: func(p *program, _ int) error {
			return errors.Join(p.ordinary(), p.ordinary(), p.ordinary(), p.ordinary(), p.refused("SELECT * FROM nowhere", "42P01"))
		}},
	{name: "failing", options: size(2, 0), alerts: []string{"PgprodErrorShare", "PgprodErrorShareLasts"},
		round: func(p *program, _ int) error {
			const missing = "SELECT * FROM nowhere"
			return errors.Join(p.ordinary(), p.refused(missing, "42P01"), p.refused(missing, "42P01"))
		}},
	{name: "slow", options: size(12, 0), alerts: []string{"PgprodStatementsSlow", "PgprodStatementsSlowLast"},
		over: []string{"PgprodStatementsSlow"},
		round: func(p *program, n int) error {
			if n == 2 {
				return errors.Join(p.slow(12, 1.1), p.ordinary())
			}
			return errors.Join(p.slow(1, 0), p.ordinary())
		}},
	{name: "slow now and then", options: size(2, 0), alerts: []string{"PgprodStatementsSlowLast"},
		round: func(p *program, n int) error {
			if n == 4 || n == 10 || n == 16 || n == 20 {
				return errors.Join(p.slow(2, 1.1), p.ordinary())
			}
			return errors.Join(p.slow(1, 0), p.ordinary())
		}},
}

func size(pool, overflow int) []pgprod.Option {
	return []pgprod.Option{pgprod.WithPoolSize(pool), pgprod.WithMaxOverflow(overflow)}
}

// healthy is what an ordinary day brings: violations of constraints, a caller that gives up, a peak, a restart of the
// server.
func healthy(p *program, n int) error {
	err := errors.Join(p.ordinary(), p.refused("INSERT INTO items VALUES (1)", "23505"))
	switch n {
	case 0:
		err = errors.Join(err, p.preflight())
	case 5:
		ctx, cancel := context.WithTimeout(p.ctx, 50*time.Millisecond)
		defer cancel()
		if _, gaveUp := p.db.ExecContext(ctx, "SELECT pg_sleep(60)"); gaveUp == nil {
			err = errors.Join(err, errors.New("it slept"))
		}
	case 10:
		for range 6 {
			err = errors.Join(err, p.hold())
		}
		err = errors.Join(err, p.release())
	case 15:
		err = errors.Join(err, p.restart())
	}
	return err
}

// A program is a process with a pool, as Prometheus scrapes it.
type program struct {
	story

	ctx        context.Context // ends what the story left under way
	cancel     context.CancelFunc
	background sync.WaitGroup
	server     *pgtest.Server
	standby    *pgtest.Server // nil unless the story has a cluster
	dsn        string
	proxy      *faultproxy.Proxy // nil unless the story is proxied
	reports    *reports
	db         *sql.DB
	beside     *sql.DB // a second pool, or nil
	held       []*sql.Conn
}

func start(t *testing.T, s story, receiver string) *program {
	t.Helper()
	p := &program{story: s, server: pgtest.Shared(t), dsn: pgtest.NewDatabase(t)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	if s.cluster {
		p.server = pgtest.StartTB(t, pgtest.Config{})
		p.dsn = p.server.DSN("postgres")
	}
	conn, err := pgx.Connect(p.ctx, p.dsn) // what makes the table is not to be seen
	require.NoError(t, err)
	_, err = conn.Exec(p.ctx, "CREATE TABLE items (id int PRIMARY KEY, seen int NOT NULL DEFAULT 0); INSERT INTO items SELECT generate_series(1, 100)")
	require.NoError(t, errors.Join(err, conn.Close(p.ctx)))
	if s.cluster {
		p.standby = pgtest.StartTB(t, pgtest.Config{StandbyOf: p.server})
		p.dsn = fmt.Sprintf("postgres://postgres@%s:%d,%s:%d/postgres?sslmode=disable&target_session_attrs=read-write",
			p.server.Host(), p.server.Port(), p.standby.Host(), p.standby.Port())
	}
	if s.proxied {
		p.proxy = faultproxy.StartTB(t, p.dsn)
	}
	p.reports = newReports(t, s.name, receiver)
	p.db, err = p.open(s.name, s.options...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.close()) })
	return p
}

func (p *program) open(pool string, opts ...pgprod.Option) (*sql.DB, error) {
	dsn := p.dsn
	if p.proxy != nil {
		dsn = p.proxy.DSN()
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, err
	}
	if p.story.server != nil {
		p.story.server(u)
	}
	return pgprod.Open(u.String(), append([]pgprod.Option{
		pgprod.WithMeterProvider(p.reports.meters), pgprod.WithPoolName(pool), pgprod.WithPreflight(false),
		pgprod.WithLeakDetection(time.Hour), pgprod.WithLogger(slog.New(slog.DiscardHandler)),
		pgprod.WithPoolTimeout(time.Hour), // on a busy machine a story takes longer than the default
	}, opts...)...)
}

func (p *program) close() error {
	p.cancel()
	p.background.Wait()
	err := errors.Join(p.release(), p.db.Close())
	if p.beside != nil {
		err = errors.Join(err, p.beside.Close())
	}
	return errors.Join(err, p.reports.meters.Shutdown(context.Background()))
}

// ordinary is some work that succeeds.
func (p *program) ordinary() error {
	for n := range 5 {
		var id int
		if err := p.db.QueryRowContext(p.ctx, "SELECT id FROM items WHERE id > $1 LIMIT 1", n).Scan(&id); err != nil {
			return err
		}
	}
	return nil
}

// refused is a statement that the server refuses.
func (p *program) refused(statement, code string) error {
	_, err := p.db.ExecContext(p.ctx, statement)
	var state interface{ SQLState() string }
	if errors.As(err, &state) && state.SQLState() == code {
		return nil
	}
	return fmt.Errorf("%s: not %s but %w", statement, code, err)
}

// dial makes the pool's connection. On a busy machine that may take longer than pool_timeout.
func (p *program) dial() error {
	_ = p.db.PingContext(p.ctx)
	return p.until(func(s pgprod.PoolStatus) bool { return s.CheckedIn > 0 })
}

// timeOut has so many callers at once wait for pool_timeout in vain.
func (p *program) timeOut(callers int) error {
	return p.together(callers, func() error {
		if err := p.db.PingContext(p.ctx); !errors.Is(err, pgprod.ErrPoolTimeout) {
			return fmt.Errorf("no ErrPoolTimeout but %w", err)
		}
		return nil
	})
}

// slow is so many statements at once that take that long. The first of a program brings their series into being: what a
// counter begins with is no rise.
func (p *program) slow(statements int, seconds float64) error {
	return p.together(statements, func() error {
		_, err := p.db.ExecContext(p.ctx, "SELECT pg_sleep($1)", seconds)
		return err
	})
}

func (p *program) together(n int, do func() error) error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { errs[i] = do() })
	}
	all.Wait()
	return errors.Join(errs...)
}

// checks asks for the health, as a readiness probe does, until it is what it should be: on a busy machine an answer may be
// late.
func (p *program) checks(want string) error {
	return p.asks(func(h pgprod.Health) bool { return h.Status == want })
}

// preflight waits for the preflight to be over. It has something to say, since the role is a superuser.
func (p *program) preflight() error {
	return p.asks(func(h pgprod.Health) bool { return len(h.Warnings) > 0 })
}

// asks asks for the health until it is good enough.
func (p *program) asks(enough func(pgprod.Health) bool) error {
	var h pgprod.Health
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if h = pgprod.Check(p.ctx, p.db); enough(h) {
			return nil
		}
		if err := p.sleep(10 * time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: %s", h.Status, h.Reason)
}

// conflict is a transaction that another one gets in the way of: the server refuses its first attempt.
func (p *program) conflict() error {
	const change = "UPDATE items SET seen = seen + 1 WHERE id = 1"
	attempts := 0
	err := pgprod.InTx(p.ctx, p.db, func(tx *sql.Tx) error {
		var seen int
		if err := tx.QueryRowContext(p.ctx, "SELECT seen FROM items WHERE id = 1").Scan(&seen); err != nil {
			return err
		}
		if attempts++; attempts == 1 {
			if _, err := p.db.ExecContext(p.ctx, change); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(p.ctx, change)
		return err
	}, pgprod.TxIsolation(sql.LevelRepeatableRead))
	if err == nil && attempts != 2 {
		return fmt.Errorf("%d attempts", attempts)
	}
	return err
}

// loseCommit is a transaction that the server commits, and of which the caller never hears.
func (p *program) loseCommit() error {
	p.proxy.SwallowReply(faultproxy.FIN, 1, faultproxy.Containing("commit"))
	err := pgprod.InTx(p.ctx, p.db, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(p.ctx, "INSERT INTO items VALUES (1000)")
		return err
	})
	if !errors.Is(err, pgprod.ErrCommitUnknown) {
		return fmt.Errorf("no ErrCommitUnknown but %w", err)
	}
	return nil
}

// hold borrows a connection until release.
func (p *program) hold() error {
	conn, err := p.db.Conn(p.ctx)
	if err != nil {
		return err
	}
	p.held = append(p.held, conn)
	return conn.PingContext(p.ctx)
}

func (p *program) release() (err error) {
	for _, conn := range p.held {
		err = errors.Join(err, conn.Close())
	}
	p.held = nil
	return err
}

// wait has a caller wait for a connection.
func (p *program) wait() error {
	p.background.Go(func() { // ended by a connection given back, or by close
		_, _ = p.db.ExecContext(p.ctx, "SELECT id FROM items")
	})
	return p.until(func(s pgprod.PoolStatus) bool { return s.Waiting == 1 })
}

// until waits for a state of the pool.
func (p *program) until(reached func(pgprod.PoolStatus) bool) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if s, err := pgprod.Status(p.db); err != nil || reached(s) {
			return err
		}
		if err := p.sleep(time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("the pool doesn't get where it should")
}

// sleep lets time pass, where how long something takes is the matter.
func (p *program) sleep(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

// restart ends the program's connections on the server.
func (p *program) restart() error { return p.server.TerminateAll(p.ctx, pgtest.DatabaseName(p.dsn)) }

// run tells the stories, and returns what Prometheus has seen of them in each form.
func run(t *testing.T) map[string]*history {
	t.Helper()
	r := newRecorder(t)
	var programs []*program
	for _, s := range stories {
		programs = append(programs, start(t, s, r.receiver.url))
	}
	for n := range scrapes {
		errs := make([]error, len(programs))
		var all sync.WaitGroup
		for i, p := range programs {
			all.Go(func() { errs[i] = p.round(p, n) })
		}
		all.Wait()
		for i, p := range programs {
			require.NoError(t, errs[i], "%s, round %d", p.name, n)
			r.note(t, p, began.Add(time.Duration(n)*scrapeInterval))
		}
	}
	r.combine()
	return r.in
}
