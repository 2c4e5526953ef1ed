package debugpage_test

import (
	"context"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// patience is how long a condition may take to come true, on a busy machine.
const patience = 30 * time.Second

// tab is a tab of a Chromium of its own, which ends with the test.
type tab struct {
	*testing.T
	ctx context.Context

	mu       sync.Mutex // guards problems
	problems []string   // what the browser complained of
}

func open(t *testing.T) *tab {
	t.Helper()
	path := chromium(t)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU)
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &tab{T: t, ctx: ctx}
	require.NoError(t, chromedp.Listen(ctx, b.heard))
	return b
}

func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	require.FailNow(t, "no Chromium: apt-get install chromium")
	return ""
}

// heard collects what the console would show. Breaches of the content security policy are among it.
func (b *tab) heard(event any) {
	problem := ""
	switch e := event.(type) {
	case *cdplog.EventEntryAdded:
		problem = string(e.Entry.Source) + ": " + e.Entry.Text
	case *runtime.EventExceptionThrown:
		problem = "exception: " + e.ExceptionDetails.Text
	case *runtime.EventConsoleAPICalled:
		problem = "console." + string(e.Type)
	default:
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, problem)
}

// quiet requires that the browser had nothing to complain of.
func (b *tab) quiet() {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Empty(b, b.problems)
}

func (b *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	require.NoError(b, chromedp.Do(ctx, actions...))
}

// call runs a command of the protocol that has no result.
func call[P, R any](b *tab, command cdp.Command[P, R], params P) {
	b.Helper()
	_, err := chromedp.Call(b.ctx, command, params)
	require.NoError(b, err)
}

// eval is the value of an expression in the page. It works with scripts disabled as well.
func eval[T any](b *tab, expression string, options ...chromedp.EvaluateOption) T {
	b.Helper()
	return get(b, chromedp.Evaluate[T](expression, options...))
}

// awaited is an expression with await in it.
func awaited(b *tab, expression string) bool {
	b.Helper()
	return eval[bool](b, "(async () => "+expression+")()", chromedp.EvalAwaitPromise)
}

func get[T any](b *tab, action chromedp.Action[T]) T {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	require.NoError(b, err)
	return v
}

// wait waits until an expression is true.
func (b *tab) wait(expression string) {
	b.Helper()
	deadline := time.Now().Add(patience)
	for !eval[bool](b, expression) {
		if time.Now().After(deadline) {
			require.FailNow(b, "never true: "+expression, eval[string](b, "document.body.innerText.slice(0, 1500)"))
		}
		time.Sleep(50 * time.Millisecond)
	}
}
