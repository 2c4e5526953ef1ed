package link

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
	"github.com/pgprod/pgprod/internal/settings"
)

// A witness notes which statements a connection reports.
type witness struct{ ended []string }

var _ Observer = (*witness)(nil)

func (w *witness) Ended(_ context.Context, s *Statement) { w.ended = append(w.ended, s.Kind+s.SQL) }
func (w *witness) Abandoned(*Statement)                  {}
func (w *witness) Warned(*pgconn.Notice, *Statement)     {}
func (w *witness) CommitUnknown(Unknown, error)          {}
func (w *witness) Lost(*Conn, error)                     {}
func (w *witness) Silent()                               {}

// dialled makes a connection, which the end of the test closes.
func dialled(t *testing.T, dsn string) (*Conn, *witness) {
	t.Helper()
	cfg, err := settings.Load(dsn, nil, settings.Values{}, "")
	require.NoError(t, err)
	in, err := instruments.New(instruments.Options{}, func() instruments.PoolState { return instruments.PoolState{} })
	require.NoError(t, err)
	t.Cleanup(func() { _ = in.Close() })
	w := &witness{}
	c, err := NewDialer(t.Context(), cfg, Hooks{Target: in.Target}).Dial(t.Context(), w, nil)
	require.NoError(t, err)
	t.Cleanup(c.HangUp)
	return c, w
}

// warmed makes a connection that has prepared texts.
func warmed(t *testing.T, dsn string, texts ...string) (*Conn, *witness) {
	t.Helper()
	c, w := dialled(t, dsn)
	use(c, texts...)
	require.NoError(t, c.Warm(t.Context()))
	return c, w
}

// use has texts count as used, the first one most.
func use(c *Conn, texts ...string) {
	for i, text := range texts {
		c.dialer.uses.add(text, 1000-i)
	}
}

// run executes a query with a number as its argument.
func run(t *testing.T, c *Conn, text string) {
	t.Helper()
	require.NoError(t, c.Try(Carried{}, func(c *Conn) error {
		_, err := c.Exec(t.Context(), text, named(1))
		return err
	}), text)
}

func TestAWarmConnectionPreparesAllTextsInOneWriteAndNoneOfThemAgain(t *testing.T) {
	t.Parallel()
	c, w := dialled(t, pgtest.NewDatabase(t))
	texts := make([]string, maxWarm)
	for i := range texts {
		texts[i] = fmt.Sprintf("select $1::int + %d", i)
	}
	use(c, texts...)
	mark := c.tap.Mark()
	require.NoError(t, c.Warm(t.Context()))
	assert.EqualValues(t, 1, c.tap.Mark()-mark)
	assert.Len(t, c.prepared.unadopted, maxWarm)
	assert.Empty(t, w.ended, "nobody has asked for it")

	for i, text := range texts {
		mark := c.tap.Mark()
		run(t, c, text)
		assert.EqualValues(t, 1, c.tap.Mark()-mark, "a round trip")
		assert.Len(t, c.prepared.unadopted, maxWarm-i-1)
	}
}

func TestWhatCantBePreparedAnyMoreIsForgottenAndNothingElse(t *testing.T) {
	t.Parallel()
	texts := []string{"select $1::int", "select $1::int from gone", "selec", "select $1::int + 1"}
	c, w := warmed(t, pgtest.NewDatabase(t), texts...)
	assert.Equal(t, []string{texts[0], texts[3]}, c.dialer.uses.most(10, warmBytes))
	assert.Len(t, c.prepared.unadopted, 2)
	run(t, c, texts[3])
	assert.Equal(t, texts[3:], w.ended)
	assert.EqualValues(t, 'I', c.pg.TxStatus())
}

func TestAConnectionThatIsLostWhileItWarmsIsClosed(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*faultproxy.Proxy){
		"reset":   func(proxy *faultproxy.Proxy) { proxy.CloseAll(faultproxy.RST) },
		"silence": func(proxy *faultproxy.Proxy) { proxy.BlackHole(faultproxy.ToClient, true) },
	} {
		proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
		c, _ := dialled(t, proxy.DSN())
		use(c, "select $1::int", "select $1::int + 1")
		lose(proxy)
		begun := time.Now()
		require.Error(t, c.Warm(t.Context()), name)
		assert.Less(t, time.Since(begun), 30*time.Second, "%s: neither command_timeout nor for ever", name)
		assert.True(t, c.Closed(), name)
		assert.Empty(t, c.dialer.uses.most(10, warmBytes), "%s: the next connection must not fail for the same reason", name)
	}
}

func TestTheEndOfTheContextEndsTheWarming(t *testing.T) {
	t.Parallel()
	c, _ := dialled(t, pgtest.NewDatabase(t))
	use(c, "select $1::int")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, c.Warm(ctx), context.Canceled)
	assert.True(t, c.Closed())
}

func TestOnAWarmConnectionABatchAndThePoolsOwnPreparesWork(t *testing.T) {
	t.Parallel()
	const text, other = "select $1::int", "select $1::int + 1"
	c, _ := warmed(t, pgtest.NewDatabase(t), text, other)
	mark := c.tap.Mark()
	require.NoError(t, c.Raw(func(pc *pgx.Conn) error {
		batch := &pgx.Batch{}
		batch.Queue(text, 1)
		return pc.SendBatch(t.Context(), batch).Close()
	}))
	assert.EqualValues(t, 3, c.tap.Mark()-mark, "both are closed together, then pgx prepares, then it executes")
	assert.Empty(t, c.prepared.unadopted)
	run(t, c, text)
	run(t, c, other)
	n, err := c.Prepare(t.Context(), other)
	require.NoError(t, err)
	assert.Equal(t, 1, n)
}

func TestACallerOfRawAdoptsWhatAWarmConnectionHasPrepared(t *testing.T) {
	t.Parallel()
	const text = "select 1"
	c, _ := warmed(t, pgtest.NewDatabase(t), text)
	mark := c.tap.Mark()
	require.NoError(t, c.Raw(func(pc *pgx.Conn) error {
		rows, err := pc.Query(t.Context(), text) // without arguments
		if err == nil {
			rows.Close()
			err = rows.Err()
		}
		return err
	}))
	assert.EqualValues(t, 1, c.tap.Mark()-mark)
	assert.Empty(t, c.prepared.unadopted)
}

func TestAWarmStatementThatIsOutdatedIsAskedAgain(t *testing.T) {
	t.Parallel()
	const text = "select * from t where a = $1"
	dsn := pgtest.NewDatabase(t)
	direct := connect(t, parse(t, dsn)).Conn()
	exec(t, direct, "create table t (a int)")
	c, _ := warmed(t, dsn, text)
	exec(t, direct, "alter table t add b int")
	err := c.Try(Carried{}, func(c *Conn) error {
		_, err := c.Exec(t.Context(), text, named(1))
		return err
	})
	require.Equal(t, "0A000", sqlState(err), "%v", err)
	require.True(t, c.Outdated(err))
	c.TakeBack()
	run(t, c, text)
}

func TestOnlyTextsThatPgxKeepsPreparedCount(t *testing.T) {
	t.Parallel()
	c, _ := dialled(t, pgtest.NewDatabase(t))
	run(t, c, "select $1::int")
	run(t, c, "select $1::int /* "+strings.Repeat("long ", longText/5)+"*/")
	_, err := c.Exec(t.Context(), "select 1", nil)
	require.NoError(t, err)
	_, err = c.Exec(t.Context(), "select $1::int + 1", named(pgx.QueryExecModeExec, 1))
	require.NoError(t, err)
	require.Error(t, c.Try(Carried{}, func(c *Conn) error {
		_, err := c.Exec(t.Context(), "select $1::int / 0", named(1))
		return err
	}))
	assert.Equal(t, []string{"select $1::int"}, c.dialer.uses.most(10, warmBytes))
	for range 10 * sample {
		run(t, c, "select $1::int")
	}
	assert.Equal(t, 1+10*sample, c.dialer.uses.of["select $1::int"])
}

func TestWhereNoPreparedStatementIsKeptNothingIsWarmed(t *testing.T) {
	t.Parallel()
	for _, keys := range [][]string{{"default_query_exec_mode", "exec"}, {"statement_cache_capacity", "0"},
		{"default_query_exec_mode", "cache_describe"}} {
		dsn := pgtest.With(pgtest.NewDatabase(t), keys...)
		cfg, err := settings.Load(dsn, nil, settings.Values{}, "")
		require.NoError(t, err)
		assert.False(t, warms(cfg.Conn, Hooks{}), "%v", keys)
	}
	cfg := parse(t, "host=h")
	assert.True(t, warms(cfg, Hooks{}))
	assert.False(t, warms(cfg, Hooks{Tagged: true}), "no text comes twice")
}
