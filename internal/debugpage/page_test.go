package debugpage_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/debugpage"
	"github.com/pgprod/pgprod/internal/debugpage/example"
)

var night = time.Date(2026, 11, 22, 3, 0, 12, 0, time.UTC)

func source(s activity.Snapshot, h activity.Health) debugpage.Source {
	return debugpage.Source{
		Name:     s.Status.PoolName,
		Snapshot: func() activity.Snapshot { return s },
		Health:   func(context.Context) activity.Health { return h },
	}
}

func ask(t *testing.T, method, url string, sources ...debugpage.Source) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h := debugpage.Handler(func() []debugpage.Source { return sources })
	h.ServeHTTP(w, httptest.NewRequest(method, url, nil))
	return w
}

// text is the page without its style and script, and with ordinary spaces.
func text(t *testing.T, url string, sources ...debugpage.Source) string {
	t.Helper()
	w := ask(t, http.MethodGet, url, sources...)
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	page := w.Body.String()
	page = strings.Replace(page, between(page, "<style>", "</style>"), "", 1)
	page = strings.Replace(page, between(page, "<script>", "</script>"), "", 1)
	return strings.ReplaceAll(page, "\u202f", " ")
}

func between(s, from, to string) string {
	_, s, _ = strings.Cut(s, from)
	s, _, _ = strings.Cut(s, to)
	return s
}

func TestTroubleIsToldAtTheTop(t *testing.T) {
	page := text(t, "/debug/pgprod", source(example.Trouble(night)))
	top, _, ok := strings.Cut(page, `<dl class="numbers">`)
	require.True(t, ok)
	for _, want := range []string{
		"<title>Degraded: shop-primary – pgprod</title>", "28 of 30 connections are in use and 12 callers wait",
		"12 callers wait for a connection. There has been a queue for 1 min", "37 callers got no connection in time",
		"2 connections have been held for suspiciously long, up to 14 min 12 s", "Last error, 4 s ago",
		"<b>N&#43;1:</b> SELECT order_lines ran 1 204 times in a row under one parent (found 37 times so far), " +
			"called by shop.(*Cart).Load cart.go:52. Better: ask for all rows at once",
		"<b>One by one:</b> INSERT sessions ran 10 times in a row under one parent, called by shop.(*Importer).Run importer.go:118.",
		"max_connections of the server is 100", "17.6, primary", "3.4 ms", "03:00:12 UTC",
	} {
		assert.Contains(t, top, want)
	}
}

func TestEverythingIsShown(t *testing.T) {
	page := text(t, "/", source(example.Trouble(night)))
	for _, want := range []string{
		"<b>28</b> of 30", "<b>93 %</b>", "peak 100 %, 30 in use", "18 422 ever, 231 ms on average", "<b>141</b>",
		"<b>1 249</b>", "transactions, most after 40001", "no word on their outcome",
		"at most 30 connections of 30 in use and 14 callers waiting; now 28 in use and 12 waiting",
		"export.(*Job).openCursor", "no statement yet", "48121", "and 13 more with less time in all", "37 times since 02:58:12", "204 times",
		"21 Nov 01:00:12", "26 h ago", "02:58:37", "1 min 35 s ago", "12 345", "older than pool_recycle",
		`<tr class="changed"><th scope="row">command_timeout</th><td class="text">10s</td><td>environment</td>`,
		`<tr><th scope="row">pool_timeout</th>`, "5 not default",
	} {
		assert.Contains(t, page, want)
	}
}

func TestTheStatementsHavePlansOrReasonsWhyThereAreNone(t *testing.T) {
	rows := between(text(t, "/", source(example.Trouble(night))), `<table class="statements"`, "</table>")
	for _, want := range []string{
		`<span class="age">query id -8117024713920338221</span>`, "Plan of one that took 4.2 s</summary>",
		`<pre class="plan" tabindex="0">Update on shop.inventory i  (cost=0.43..1204.13 rows=0 width=0)` + "\n  -&gt;  Nested Loop",
		"(i.warehouse = &#39;?&#39;::text)", "no plan of one that took 1.3 s: something it needs was locked for longer than 100ms",
	} {
		assert.Contains(t, rows, want)
	}
	assert.Equal(t, 1, strings.Count(rows, "<details>"))
	var pools []debugpage.Pool
	require.NoError(t, json.Unmarshal(ask(t, "GET", "/?format=json", source(example.Trouble(night))).Body.Bytes(), &pools))
	at := slices.IndexFunc(pools[0].Snapshot.Statements, func(s activity.Statement) bool { return s.Plan != nil && s.Plan.Text != "" })
	assert.EqualValues(t, -8117024713920338221, pools[0].Snapshot.Statements[at].Plan.QueryID)
}

func TestNothingIsToldInWords(t *testing.T) {
	for name, s := range map[string]debugpage.Source{"calm": source(example.Calm(night)), "nothing known": {Name: "x"}} {
		page := text(t, "/", s)
		for _, want := range []string{
			"No queue, no leaks", "No samples of the last five minutes yet", "Nobody has a connection.", "No statements in the last minutes.",
			"No errors since the pool was opened.", "No connection was made or closed", "No connection was closed", "nobody waits",
		} {
			assert.Contains(t, page, want, name)
		}
		assert.NotContains(t, page, `class="pools"`, "one pool needs no list of pools")
		assert.NotContains(t, page, "NaN", name)
		assert.NotContains(t, page, "Begun again", name)
	}
	assert.Contains(t, text(t, "/", debugpage.Source{}), "Unknown")
	assert.Contains(t, text(t, "/", source(example.Calm(night))), "17.6, standby (in recovery)")
	assert.Contains(t, text(t, "/"), "There are no pools to show.")
}

func TestAnUnhealthyDatabaseIsTheFirstFindingAndNothingIsCalm(t *testing.T) {
	s, h := example.Calm(night)
	h.Status, h.Database, h.Reason = activity.Unhealthy, "disconnected", "pgprod: pool reports: nothing listens there"
	page := text(t, "/", source(s, h))
	assert.NotContains(t, page, "No queue, no leaks")
	assert.Contains(t, page, "<strong>Unhealthy</strong><span>: nothing listens there</span>")
	assert.Contains(t, between(page, "Needs attention", "</li>"), "The database is not usable")

	h.Status = activity.Degraded
	page = text(t, "/", source(s, h))
	assert.NotContains(t, page, "No queue, no leaks")
	assert.Contains(t, between(page, "Needs attention", "</li>"), `class="warn"`)
}

func TestWhatAnApplicationHasToExpectIsNoFindingAndAFailingStatementHidesNothing(t *testing.T) {
	s, h := example.Calm(night)
	event := func(age time.Duration, kind, text string, warning bool) activity.Event {
		at := night.Add(-age)
		return activity.Event{At: at, First: at, Kind: kind, Text: text, Count: 1, Warning: warning}
	}
	s.Errors = []activity.Event{event(0, "statement", "insert t: duplicate key (SQLSTATE 23505)", true)}
	page := text(t, "/", source(s, h))
	assert.Contains(t, page, "No queue, no leaks")
	assert.Contains(t, page, "to be expected")

	long := "pgprod: pool reports: no connection became free in 2.001s (pool_size 5, max_overflow 3, in use 0, waiting 19, connecting 2); " +
		"the last attempt to connect failed: failed to connect to user=app database=postgres: 127.0.0.1:10778: connection refused"
	s.Errors = append(s.Errors,
		event(0, "connect", "the cause again", false),
		event(0, "health", "as said above", false),
		event(time.Second, "statement", "select t: division by zero (SQLSTATE 22012)", false),
		event(2*time.Second, "no connection", long, false),
		event(3*time.Second, "no connection", "an older one", false),
		event(2*time.Minute, "connect", "too old to be called out", false))
	findings := between(text(t, "/", source(s, h)), "Needs attention", "</ul>")
	assert.Contains(t, findings, "no connection: no connection became free in 2.001s")
	assert.Contains(t, findings, "connection refused", "the cause stands at the end")
	assert.Less(t, strings.Index(findings, "connection refused"), strings.Index(findings, "division by zero"))
	assert.Equal(t, 2, strings.Count(findings, "<li"), findings)
}

func TestOnlySoManyRepetitionsAreFindings(t *testing.T) {
	s, h := example.Calm(night)
	for n := range 13 {
		s.Repeated = append(s.Repeated, activity.Repetition{Summary: fmt.Sprint("SELECT t", n), Caller: "main.main main.go:1", Times: 99 - n, Found: 1})
	}
	findings := between(text(t, "/", source(s, h)), "Needs attention", "</ul>")
	assert.Contains(t, findings, "SELECT t9 ran 90 times")
	assert.NotContains(t, findings, "SELECT t10")
	assert.Contains(t, findings, "3 other statements ran in a row as well.")
	assert.NotContains(t, findings, "so far")
}

func TestSeveralPoolsAreListedAndTheWorstNamesTheTab(t *testing.T) {
	page := text(t, "/", source(example.Calm(night)), source(example.Trouble(night)))
	assert.Contains(t, page, "<title>Degraded: shop-primary")
	for i, id := range []string{"pool-1", "pool-2"} {
		assert.Contains(t, page, `href="#`+id+`"`, i)
		assert.Equal(t, 1, strings.Count(page, ` id="`+id+`"`))
	}
	assert.Contains(t, page, "28 of 30 in use, 12 waiting")
}

func TestAPoolWithoutLimit(t *testing.T) {
	s, h := example.Trouble(night)
	s.Status.MaxOverflow = -1
	page := text(t, "/", source(s, h))
	assert.Contains(t, page, "<b>28</b> no limit")
	assert.NotContains(t, page, `class="limit"`)
}

func TestStatementsAreSortedByWhatIsAsked(t *testing.T) {
	s, h := example.Calm(night)
	s.Statements = []activity.Statement{
		{Summary: "frequent", Count: 900, Total: 2, P99: 1, Errors: 1},
		{Summary: "expensive", Count: 10, Total: 9, P99: 2, Errors: 2},
		{Summary: "slow", Count: 1, Total: 3, P99: 9, Errors: 0, Waited: 1},
		{Summary: "computed", Count: 1, Total: 2, Server: 2, Waited: 0},
		{Summary: "left lying", Count: 1, Total: 2, Read: 2},
		{Summary: "failing", Count: 2, Total: 1, P99: 1, Errors: 9},
	}
	for query, want := range map[string]string{
		"?sort=waited": "slow", "?sort=server": "computed", "?sort=reading": "left lying",
		"": "expensive", "?sort=count": "frequent", "?sort=p99": "slow", "?sort=total": "expensive", "?sort=errors": "failing",
		"?sort=%3Cscript%3E": "expensive", "?sort=Count": "expensive",
	} {
		page := text(t, "/debug/pgprod/"+query, source(s, h))
		assert.Contains(t, between(page, `<tbody role="rowgroup">`, "</tr>"), "<code>"+want+"</code>", query)
		assert.Equal(t, 1, strings.Count(page, "aria-sort"), query)
	}
}

func TestJSONHasAllPools(t *testing.T) {
	w := ask(t, http.MethodGet, "/?format=json", source(example.Trouble(night)), debugpage.Source{Name: "empty"})
	assert.Equal(t, "application/json", w.Header().Get("Content-Type"))
	assert.NotContains(t, w.Body.String(), "null")
	var got []debugpage.Pool
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
	require.Len(t, got, 2)
	snapshot, health := example.Trouble(night)
	assert.NotEmpty(t, got[0].Findings)
	got[0].Findings = nil
	assert.Equal(t, debugpage.Pool{Name: "shop-primary", Health: health, Snapshot: snapshot}, got[0])
	assert.Equal(t, "empty", got[1].Name)
	assert.Equal(t, "[]", strings.TrimSpace(ask(t, http.MethodGet, "/?format=json").Body.String()))
}

func TestNothingElseMayRunOrLoad(t *testing.T) {
	w := ask(t, http.MethodGet, "/", source(example.Trouble(night)))
	csp := w.Header().Get("Content-Security-Policy")
	for _, directive := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} {
		assert.Contains(t, csp, directive)
	}
	assert.NotContains(t, csp, "unsafe")
	for directive, tag := range map[string]string{"style-src": "style", "script-src": "script"} {
		sum := sha256.Sum256([]byte(between(w.Body.String(), "<"+tag+">", "</"+tag+">")))
		assert.Contains(t, csp, directive+" 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	}
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "X-Frame-Options": "DENY",
		"Content-Type": "text/html; charset=utf-8",
	} {
		assert.Equal(t, want, w.Header().Get(name))
	}
	page := text(t, "/", source(example.Trouble(night)))
	assert.NotContains(t, page, ` style="`, "the policy forbids it")
	assert.NotRegexp(t, `(src|href|action)="(https?:)?/`, page, "only relative addresses, at any path")
}

func TestOnlyGetAndHead(t *testing.T) {
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PATCH"} {
		w := ask(t, method, "/", source(example.Calm(night)))
		assert.Equal(t, http.StatusMethodNotAllowed, w.Code)
		assert.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
		assert.NotEmpty(t, w.Header().Get("Content-Security-Policy"))
	}
	server := httptest.NewServer(debugpage.Handler(func() []debugpage.Source { return []debugpage.Source{source(example.Calm(night))} }))
	defer server.Close()
	answer, err := http.Head(server.URL)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	assert.Equal(t, http.StatusOK, answer.StatusCode)
	assert.Positive(t, answer.ContentLength)
}

func TestDataIsNeverHTML(t *testing.T) {
	const evil = `"'></code></svg></title><script>alert(1)</script><img src=x onerror=alert(1)>`
	s, _ := example.Trouble(night)
	h := activity.Health{Status: evil, Database: evil, Reason: evil, ServerVersion: evil}
	s.Status.PoolName, s.Warnings = evil, []string{evil}
	s.Status.Closed, s.BegunAgain = map[string]int64{evil: 1}, map[string]int64{evil: 1}
	s.Holders[0].Statement, s.Holders[0].Stack = evil, []string{evil}
	s.Statements[0].Summary = evil
	s.Errors[0].Kind, s.Errors[0].Text = evil, evil
	s.Events[0] = s.Errors[0]
	s.Slow[0].Summary, s.Slow[0].Found, s.Slow[0].TraceID, s.Slow[0].Failed = evil, evil, evil, evil
	n := s.Blocking[0]
	n.Application, n.User, n.Text, n.State, n.Wait, n.Own.Stack = evil, evil, evil, evil, activity.Wait{Type: evil, Event: evil}, []string{evil}
	s.Settings[0] = activity.Setting{Key: evil, Value: evil, Source: evil}
	page := text(t, "/?sort="+"%22%3E%3Cscript%3E", source(s, h), source(s, h))
	assert.Equal(t, 1, strings.Count(page, "<script"), "the page's own")
	assert.NotContains(t, page, "<img")
	assert.NotContains(t, page, `"'>`)
	assert.Contains(t, page, "&lt;script&gt;alert(1)")
}

func TestThePageStaysSmall(t *testing.T) {
	s, h := example.Trouble(night)
	long := strings.Repeat("SELECT a_table_with_a_long_name ", 60)
	for i := range 500 {
		s.Statements = append(s.Statements, activity.Statement{Summary: fmt.Sprint(i, long), Count: 1})
		s.Errors = append(s.Errors, activity.Event{At: night, Kind: "e", Text: long})
		s.Events = append(s.Events, activity.Event{At: night, Kind: "e", Text: long})
		s.Slow = append(s.Slow, activity.SlowStatement{Summary: long, Found: long, TraceID: long[:32]})
		s.Blocking[0].Below = append(s.Blocking[0].Below, &activity.Node{
			Blocker: activity.Blocker{PID: uint32(i), Application: long, State: long}, Text: long,
		})
		s.Holders = append(s.Holders, activity.Holder{Statement: long, Stack: strings.Split(strings.Repeat(long[:100]+",", 60), ",")})
		s.Warnings = append(s.Warnings, long)
	}
	w := ask(t, http.MethodGet, "/", source(s, h))
	t.Log(w.Body.Len(), "bytes")
	assert.Less(t, w.Body.Len(), 500_000)
	page := text(t, "/", source(s, h))
	assert.Contains(t, page, "and 513 more with less time in all")
	assert.Contains(t, page, "and 478 more, held for less long")
	assert.Contains(t, page, "and 455 older")
	assert.Contains(t, page, "and 37 frames more")
}

func TestAHangingCheckDoesNotHangThePage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hanging := debugpage.Source{Name: "hangs", Health: func(ctx context.Context) activity.Health {
			<-ctx.Done()
			return activity.Health{Status: activity.Unhealthy, Reason: "no answer"}
		}}
		began := time.Now()
		page := text(t, "/", hanging, hanging, hanging)
		assert.Equal(t, 2500*time.Millisecond, time.Since(began), "one limit for all")
		assert.Equal(t, 3, strings.Count(page, "<span>: no answer</span>"))
	})
}
