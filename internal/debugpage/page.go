package debugpage

import (
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"strings"
	"sync"
	"time"
)

// The document: page.html is the frame, pool.html is for one pool, blocking.html has who waits for whom, tables.html the
// tables of one pool.
var (
	//go:embed page.html pool.html blocking.html tables.html
	files embed.FS
	//go:embed style.css
	style string
	//go:embed script.js
	script string

	// templates are parsed for the first page, since most programs that import pgprod never show one.
	templates = sync.OnceValue(func() *template.Template {
		return template.Must(template.New("").Funcs(functions).ParseFS(files, "*.html"))
	})
)

// policy is the Content-Security-Policy. It allows the style and the script above, by their hashes, and that the script
// fetches the page again; nothing else may run or load. Unlike a nonce, a hash can't be read from the page and used for
// another script.
var policy = sync.OnceValue(func() string {
	return strings.Join([]string{
		"default-src 'none'",
		"style-src " + hash(style),
		"script-src " + hash(script),
		"connect-src 'self'",
		"img-src data:", // for the icon
		"base-uri 'none'",
		"form-action 'none'",
		"frame-ancestors 'none'",
	}, "; ")
})

// hash is the hash of a style or a script, as a Content-Security-Policy has it.
func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// harden sets the headers that each answer has, errors too.
func harden(h http.Header) {
	h.Set("Content-Security-Policy", policy())
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// page is what page.html shows.
type page struct {
	Title string
	At    time.Time
	Icon  template.URL
	Style template.CSS
	Code  template.JS
	Order order
	Pools []view
}

// newPage returns the page about pools, with statements in the order o. Title and icon are those of the pool that is worst.
func newPage(pools []Pool, o order) page {
	p := page{
		Title: "no pools", At: time.Now(), Style: template.CSS(style), Code: template.JS(script), Order: o,
		Pools: make([]view, len(pools)),
	}
	worst := -1
	for i, pool := range pools {
		p.At = pool.Snapshot.At
		p.Pools[i] = newView(i+1, pool, o)
		if s := severity[p.Pools[i].Grade()]; s > worst {
			worst = s
			p.Title = p.Pools[i].Word() + ": " + pool.Name
			p.Icon = icon(p.Pools[i].Grade())
		}
	}
	p.Icon = cmp.Or(p.Icon, icon("unknown"))
	return p
}

// severity is how bad a grade is. The page has the title and the icon of the worst pool.
var severity = map[string]int{"ok": 0, "unknown": 1, "warn": 2, "bad": 3}

// icon is the page's icon for a grade. It has the shape that the grade has on the page, for people who can't tell the
// colours apart.
func icon(grade string) template.URL {
	shape := map[string]string{
		"ok":      `<circle cx='8' cy='8' r='8' fill='%231a7f37'/>`,
		"unknown": `<circle cx='8' cy='8' r='6' fill='none' stroke='%23768390' stroke-width='3'/>`,
		"warn":    `<path d='M8 0l8 16H0z' fill='%23d29922'/>`,
		"bad":     `<path d='M0 0h16v16H0z' fill='%23d1242f'/>`,
	}[grade]
	return template.URL("data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'>" + shape + "</svg>")
}
