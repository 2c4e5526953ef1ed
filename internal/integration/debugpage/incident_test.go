package debugpage_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// An incident is a pool on a real server, behind a proxy that breaks its connections.
type incident struct {
	*testing.T
	proxy *faultproxy.Proxy
	db    *sql.DB
	url   string // of its live page
}

func newIncident(t *testing.T) *incident {
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	tracer := sdktrace.NewTracerProvider()
	t.Cleanup(func() { _ = tracer.Shutdown(context.Background()) })
	db, err := pgprod.Open(proxy.DSN(), pgprod.WithPoolName("shop"), pgprod.WithTracerProvider(tracer), pgprod.WithPreflight(false),
		pgprod.WithSlowQuery(100*time.Millisecond), pgprod.WithServerSettings(map[string]string{"application_name": "shop"}))
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	server := httptest.NewServer(pgprod.DebugHandler(db))
	t.Cleanup(server.Close)
	return &incident{T: t, proxy: proxy, db: db, url: server.URL}
}

func (i *incident) exec(q interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, statement string) {
	i.Helper()
	_, err := q.ExecContext(context.Background(), statement)
	require.NoError(i, err)
}

// loseCommit has the reply to a COMMIT lost.
func (i *incident) loseCommit() {
	tx, err := i.db.Begin()
	require.NoError(i, err)
	i.exec(tx, "insert into accounts values (9, 0)")
	i.proxy.Inject(faultproxy.Rule{Match: faultproxy.Containing("commit")})
	require.ErrorIs(i, tx.Commit(), pgprod.ErrCommitUnknown)
}

// chain has another program's transaction block one of the pool's, which blocks a second one, which blocks a statement.
func (i *incident) chain() {
	ctx := context.Background()
	other, err := sql.Open("pgx", pgtest.With(i.proxy.DSN(), "application_name", "billing"))
	require.NoError(i, err)
	i.Cleanup(func() { _ = other.Close() })
	root, err := other.Begin()
	require.NoError(i, err)
	i.exec(root, "update accounts set n = 4711 where id = 1")
	var transactions []*sql.Tx
	for id := 2; id <= 3; id++ {
		tx, err := i.db.BeginTx(ctx, nil)
		require.NoError(i, err)
		transactions = append(transactions, tx)
		i.exec(tx, fmt.Sprintf("update accounts set n = 4711 where id = %d", id))
	}
	done := make(chan struct{}, 3)
	run := func(exec func(context.Context, string, ...any) (sql.Result, error), id int) {
		go func() { // ends when the transactions are rolled back, or with the pool
			_, _ = exec(ctx, fmt.Sprintf("update accounts set n = 4711 where id = %d", id))
			done <- struct{}{}
		}()
	}
	run(transactions[0].ExecContext, 1)
	run(transactions[1].ExecContext, 2)
	run(i.db.ExecContext, 3)
	i.Cleanup(func() {
		_ = root.Rollback()
		<-done
		_ = transactions[0].Rollback()
		<-done
		_ = transactions[1].Rollback()
		<-done
	})
}

func TestAnIncidentOnARealServerIsReadableInEachLook(t *testing.T) {
	i := newIncident(t)
	i.exec(i.db, "create table accounts (id int primary key, n int)")
	i.exec(i.db, "insert into accounts select n, 0 from generate_series(1, 3) n")
	i.loseCommit()
	i.chain()
	b := open(t)
	b.run(chromedp.Navigate(i.url))
	b.wait(`document.querySelectorAll('.tree .session').length === 4`)
	text := eval[string](b, "document.body.innerText")
	for _, want := range []string{
		"Unknown commits", "It is not known whether 1 transaction took place", "3 sessions wait for pid ", "application billing",
		"not this pool's", "this pool's own", "blocks 3", "blocks 2", "blocks 1", "update accounts",
		"debugpage_test.(*incident).chain incident_test.go", "waits for Lock/transactionid", "trace ", "Round trips saved",
	} {
		assert.Contains(t, text, want)
	}
	assert.NotRegexp(t, `\b4711\b`, eval[string](b, "document.querySelector('.tree').innerText.replace(/pid \\d+/g, '')"), "a literal")
	b.looks("incident", i.url)
	b.quiet()
}
