package debugpage_test

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/debugpage/example"
)

func TestItFitsAndIsReadable(t *testing.T) {
	pages := map[string]*service{"trouble": serve(t, example.Trouble), "several": serve(t, example.Trouble, example.Calm)}
	b := open(t)
	for name, s := range pages {
		b.looks(name, s.url)
	}
	b.quiet()
}

// looks looks at a page on a phone, a tablet and a desk, by day and by night: nothing may be too wide or too faint.
func (b *tab) looks(name, url string) {
	b.Helper()
	dir := cmp.Or(os.Getenv("PGPROD_SCREENSHOTS"), b.TempDir())
	require.NoError(b, os.MkdirAll(dir, 0o755))
	for _, width := range []int64{360, 768, 1280} {
		for _, scheme := range []string{"light", "dark"} {
			call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
			})
			b.run(
				chromedp.EmulateViewport(width, 800), chromedp.Navigate(url), chromedp.Click(chromedp.CSS(`#pause`)), chromedp.Click(chromedp.CSS(`details summary`)),
			)
			shot := fmt.Sprintf("%s-%d-%s", name, width, scheme)
			assert.Empty(b, eval[[]string](b, wide), shot)
			assert.Empty(b, eval[[]string](b, faint), shot)
			b.picture(filepath.Join(dir, shot))
		}
	}
}

// picture takes what is seen first, and the whole page.
func (b *tab) picture(path string) {
	b.Helper()
	eval[chromedp.Void](b, `window.scrollTo(0, 0)`)
	require.NoError(b, os.WriteFile(path+"-first.png", get(b, chromedp.CaptureScreenshot()), 0o644))
	require.NoError(b, os.WriteFile(path+"-whole.png", get(b, chromedp.FullScreenshot(100)), 0o644))
}

// wide lists what is wider than the window, but for what scrolls in a box of its own.
const wide = `(() => {
	const most = document.documentElement.clientWidth, found = [];
	if (document.documentElement.scrollWidth > most) found.push('the page is ' + document.documentElement.scrollWidth + ' wide');
	for (const e of document.querySelectorAll('body *')) {
		const r = e.getBoundingClientRect();
		if (r.width && r.right > most + 1 && !e.closest('.scroll, svg')) found.push(e.tagName + '.' + e.className + ' ends at ' + r.right);
	}
	for (const e of document.querySelectorAll('.scroll')) {
		if (e.scrollWidth > e.clientWidth) found.push(e.getAttribute('aria-labelledby') + ' scrolls sideways');
	}
	return found;
})()`

// faint lists text whose contrast is below 4.5, the least of WCAG AA.
const faint = `(() => {
	const numbers = c => c.match(/[\d.]+/g).map(Number);
	const light = c => { const [r, g, b] = numbers(c).map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
		return 0.2126 * r + 0.7152 * g + 0.0722 * b };
	const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
		if ((numbers(c)[3] ?? 1) === 1) return c } return 'rgb(255, 255, 255)' };
	const found = [];
	for (const e of document.querySelectorAll('body *')) {
		if (['SCRIPT', 'NOSCRIPT'].includes(e.tagName) || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || !e.getClientRects().length) continue;
		const style = getComputedStyle(e), back = light(ground(e)), fore = light(e.closest('svg') ? style.fill : style.color);
		const contrast = (Math.max(back, fore) + 0.05) / (Math.min(back, fore) + 0.05);
		if (contrast < 4.5) found.push(contrast.toFixed(2) + ' ' + e.tagName + '.' + e.className + ' ' + e.textContent.slice(0, 30));
	}
	return found;
})()`
