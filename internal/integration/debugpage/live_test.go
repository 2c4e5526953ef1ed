package debugpage_test

import (
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/debugpage/example"
)

func TestEverythingIsThereWithoutJavaScript(t *testing.T) {
	s, b := serve(t, example.Trouble, example.Calm), open(t)
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.run(chromedp.Navigate(s.url))
	text := eval[string](b, "document.body.innerText")
	for _, want := range []string{
		"shop-primary", "reports", "12 callers wait", "2 connections have been held", "Preflight:", "SELECT customers", "deadlock detected",
		"backend 50399", "older than pool_recycle", "command_timeout", "in use", "5 min ago", "Nobody has a connection.", "Refresh",
	} {
		assert.Contains(t, text, want)
	}
	assert.NotContains(t, text, "Pause", "what needs scripts isn't shown")
	b.run(chromedp.Click(chromedp.CSS(`#statements-1 a[data-sort=p99]`)))
	b.wait(`location.search === '?sort=p99' && document.querySelector('#statements-1 [aria-sort] a')?.dataset.sort === 'p99'`)
	assert.True(t, eval[bool](b, inOrder("p99")))
	b.run(chromedp.Click(chromedp.CSS(`details summary`)))
	b.wait(`document.querySelector('details').open`)
	b.quiet()
}

// inOrder is an expression: the first table's rows are sorted by a column.
func inOrder(column string) string {
	return `(v => v.length === 50 && v.every((x, i) => i === 0 || v[i-1] >= x))(
		[...document.querySelectorAll('#statements-1 td[data-head=` + column + `]')].map(e => +e.dataset.value))`
}

func TestItRefreshesInPlace(t *testing.T) {
	s, b := serve(t, example.Trouble), open(t)
	b.run(chromedp.EmulateViewport(1280, 800), chromedp.Navigate(s.url))
	b.run(chromedp.Click(chromedp.CSS(`tr[data-key=pid48377] summary`)))
	b.wait(`document.querySelector('tr[data-key=pid48377] details').open`)
	eval[chromedp.Void](b, `window.notReloaded = true, window.row = document.querySelector('tr[data-key=pid48377]'),
		document.querySelector('#statements-1 a[data-sort=max]').focus(), window.scrollTo(0, 700), window.y = window.scrollY, null`)

	s.becomes(func(s *activity.Snapshot) {
		s.Status.Waiting = 77
		s.Holders = s.Holders[1:] // the first gives its connection back
		s.Settings[0].Value = "<b id=evil>bold</b>"
		s.Statements[0].Summary = "SELECT something_new"
	})
	b.wait(`document.body.innerText.includes('77 callers wait')`)
	for _, kept := range []string{
		`window.notReloaded`, `window.row.isConnected && window.row.querySelector('details').open`, `window.scrollY > 400`,
		`document.activeElement.dataset.sort === 'max'`, `document.querySelectorAll('details[open]').length === 1`,
		`!document.querySelector('tr[data-key=pid48121]')`, `document.body.innerText.includes('SELECT something_new')`,
		`!document.getElementById('evil') && document.body.innerText.includes('<b id=evil>bold</b>')`,
	} {
		assert.True(t, eval[bool](b, kept), kept)
	}
	s.becomes(func(s *activity.Snapshot) { *s = activity.Snapshot{At: s.At} })
	b.wait(`document.body.innerText.includes('Nobody has a connection.')`)
	s.becomes(func(*activity.Snapshot) {})
	b.wait(`document.body.innerText.includes('12 callers wait') && document.querySelectorAll('table').length === 8`)
	fresh := `new DOMParser().parseFromString(await (await fetch(location)).text(), 'text/html').querySelectorAll('main *').length`
	assert.True(t, awaited(b, `document.querySelectorAll('main *').length === `+fresh), "after all changes it is what the service sends")
	b.quiet()
}

func TestPause(t *testing.T) {
	s, b := serve(t, example.Trouble), open(t)
	b.run(chromedp.Navigate(s.url), chromedp.Focus(chromedp.CSS(`#pause`)), chromedp.KeyEvent(" "))
	b.wait(`document.getElementById('pause').getAttribute('aria-pressed') === 'true' && document.body.innerText.includes('Paused.')`)
	s.becomes(func(s *activity.Snapshot) { s.Status.Waiting = 78 })
	asked := s.asked.Load()
	// Nothing happening can only be seen by waiting: longer than one refresh.
	assert.True(t, awaited(b, `await new Promise(r => setTimeout(() => r(!document.body.innerText.includes('78 callers')), 3000))`))
	assert.LessOrEqual(t, s.asked.Load(), asked+1, "one may have been under way")
	b.run(chromedp.KeyEvent(" "))
	b.wait(`document.body.innerText.includes('78 callers wait')`)
	b.quiet()
}

func TestSortingStays(t *testing.T) {
	s, b := serve(t, example.Trouble), open(t)
	b.run(chromedp.Navigate(s.url+"/"), chromedp.Click(chromedp.CSS(`a[data-sort=rows]`)))
	require.True(t, eval[bool](b, inOrder("rows")), "at once")
	assert.Equal(t, "?sort=rows", eval[string](b, `location.search`))
	s.becomes(func(s *activity.Snapshot) { s.Status.Waiting = 79; s.Statements[62].Rows = 1 << 40 })
	b.wait(`document.body.innerText.includes('79 callers wait') && ` + inOrder("rows"))
	assert.True(t, eval[bool](b, `document.querySelector('#statements-1 td[data-head=rows]').dataset.value == 2**40`), "of all, not of those shown")
	b.quiet()
}

func TestAServiceThatIsGoneIsTold(t *testing.T) {
	s, b := serve(t, example.Trouble), open(t)
	b.run(chromedp.Navigate(s.url))
	b.quiet()
	s.down.Store(true)
	b.wait(`/The service does not answer\. Last answer [1-9]\d* s ago/.test(document.getElementById('lost').innerText)`)
	assert.True(t, eval[bool](b, `document.body.innerText.includes('12 callers wait')`), "what was known stays")
	s.down.Store(false)
	b.wait(`document.getElementById('lost').hidden`)
}
