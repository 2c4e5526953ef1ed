package debugpage_test

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

func TestAHostThatGoesAndComesBackIsSeenWithoutAReload(t *testing.T) {
	dsn := pgtest.NewDatabase(t)
	first, second := faultproxy.StartTB(t, dsn), faultproxy.StartTB(t, dsn)
	addresses := first.Addr().String() + "," + second.Addr().String()
	db, err := pgprod.Open(strings.Replace(first.DSN(), first.Addr().String(), addresses, 1),
		pgprod.WithPoolName("shop"), pgprod.WithPreflight(false))
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	server := httptest.NewServer(pgprod.DebugHandler(db))
	t.Cleanup(server.Close)
	require.NoError(t, db.Ping())
	b := open(t)
	b.run(chromedp.Navigate(server.URL))
	const row = `document.querySelector('#hosts-1 tbody tr:first-child')`
	b.wait(row + `?.innerText.includes('up') ?? false`)
	assert.Equal(t, first.Addr().String(), eval[string](b, row+`.querySelector('th').innerText`))

	require.NoError(t, first.Refuse())
	first.CloseAll(faultproxy.RST)
	require.Eventually(t, func() bool { return db.Ping() == nil }, patience, 10*time.Millisecond)
	b.wait(row + `.innerText.includes('down for') && document.querySelector('#attention-1')?.innerText.includes('has been down for')`)
	assert.True(t, eval[bool](b, row+`.querySelector('svg.sign.warn') !== null`))
	assert.Contains(t, eval[string](b, `document.querySelector('#events-1').innerText`), first.Addr().String()+" is down")
	for _, width := range []int64{360, 1280} {
		b.run(chromedp.EmulateViewport(width, 800))
		assert.Empty(b, eval[[]string](b, wide), width)
		assert.Empty(b, eval[[]string](b, faint), width)
	}

	require.NoError(t, first.Admit())
	b.wait(row + `.innerText.includes('up for') && !document.querySelector('#attention-1')?.innerText.includes('has been down for')`)
	assert.Contains(t, eval[string](b, `document.querySelector('#events-1').innerText`), first.Addr().String()+" is up again")
	b.quiet()
}
