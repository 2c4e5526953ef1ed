package debugpage_test

import (
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/debugpage"
	"github.com/pgprod/pgprod/internal/debugpage/example"
	"github.com/pgprod/pgprod/internal/docs"
)

// What the page shows is in its JSON, or it could not be made of that.
func TestThePageCanBeMadeOfItsJSON(t *testing.T) {
	for _, s := range []debugpage.Source{source(example.Trouble(night)), source(example.Calm(night))} {
		var got []debugpage.Pool
		require.NoError(t, json.Unmarshal(ask(t, http.MethodGet, "/?format=json", s).Body.Bytes(), &got))
		require.Len(t, got, 1)
		assert.Equal(t, text(t, "/", s), text(t, "/", source(got[0].Snapshot, got[0].Health)))
	}
}

func TestTheFindingsAreInTheJSONAsOnThePage(t *testing.T) {
	s := source(example.Trouble(night))
	var got []struct {
		Findings []map[string]string
	}
	require.NoError(t, json.Unmarshal(ask(t, http.MethodGet, "/?format=json", s).Body.Bytes(), &got))
	shown := between(text(t, "/", s), "Needs attention", "</ul>")
	assert.Equal(t, strings.Count(shown, "<li"), len(got[0].Findings))
	for _, f := range got[0].Findings {
		assert.Contains(t, []string{"bad", "warn"}, f["grade"])
		plain := strings.NewReplacer("\u202f", " ", "'", "&#39;", "+", "&#43;").Replace(f["text"])
		assert.Contains(t, shown, plain)
	}
}

func TestTheManualHasEachKeyOfTheJSON(t *testing.T) {
	manual, err := docs.Read("internal/docs/operations.md")
	require.NoError(t, err)
	_, section, _ := strings.Cut(manual, "### The live page as JSON\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var missing []string
	for _, key := range keysOf(reflect.TypeFor[debugpage.Pool](), map[reflect.Type]bool{}) {
		if !strings.Contains(section, "`"+key+"`") {
			missing = append(missing, key)
		}
	}
	assert.Empty(t, missing)
}

// keysOf lists the keys of a type's JSON, and of what is in it.
func keysOf(t reflect.Type, seen map[reflect.Type]bool) (keys []string) {
	for slices.Contains([]reflect.Kind{reflect.Slice, reflect.Pointer, reflect.Map}, t.Kind()) {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || seen[t] || t.PkgPath() == "time" {
		return nil
	}
	seen[t] = true
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		if name != "" {
			keys = append(keys, name)
		}
		keys = append(keys, keysOf(f.Type, seen)...)
	}
	return keys
}

func TestTheTreeOfBlockersIsShownFromTheRootOnDown(t *testing.T) {
	s, h := example.Trouble(night)
	page := text(t, "/", source(s, h))
	assert.Contains(t, between(page, "Needs attention", "</ul>"), "4 sessions wait for pid 48121, application shop, user shop_service, idle in transaction for 14m0s, "+
		"held since 14m12s by export.(*Job).openCursor cursor.go:118.")
	tree := between(page, `<ul class="tree">`, `<p class="rest">`)
	tree, _, _ = strings.Cut(tree, `id="holders-1"`)
	at := 0
	for _, want := range []string{
		"<b>pid 48121</b> <span class=\"tag\">this pool&#39;s own</span>", "blocks 4", "application shop, user shop_service", "idle in transaction for 14m0s",
		"seen 2 s ago", "<code>SELECT orders order_lines</code>", "held since 14m12s by export.(*Job).openCursor cursor.go:118",
		"<b>pid 50210</b>", "waits for Lock/transactionid", "<code>UPDATE inventory</code>", "trace <code>4bf92f3577b34da6a3ce929d0e0e4702</code>",
		"<b>pid 51877</b>", "not this pool&#39;s", "application nightly reports", "perhaps it waits for itself", "<b>pid 52001</b>", "application migrate", "1 more hold the lock too, or come first",
	} {
		next := strings.Index(tree[at:], want)
		assert.GreaterOrEqual(t, next, 0, want)
		at += max(0, next)
	}
	assert.Contains(t, page, "Round trips saved</dt><dd><b>226 464</b>")
	assert.Contains(t, page, "BEGIN 184 220, settings 41 003, cleaning 1 204, keys of TxOnce 37")
	slow := between(page, `id="slow-1"`, "</table>")
	for _, want := range []string{"<b>10 s</b> <code>UPDATE inventory</code>", "failed: 57014", "9 s ago", "held by pid 51102", "trace <code>8d3c1ab5", "waited for a connection before 340 ms, server 300 ms, reading 1.8 s"} {
		assert.Contains(t, slow, want)
	}
	assert.Contains(t, between(page, `data-key="pid50210"`, "</tr>"), "running for 7.4 s")
}

func TestALongTreeIsCutOff(t *testing.T) {
	s, h := example.Calm(night)
	top := &activity.Node{Blocker: activity.Blocker{PID: 1}}
	s.Blocking = []*activity.Node{top}
	for i := range 100 {
		below := &activity.Node{Blocker: activity.Blocker{PID: uint32(2 + i)}}
		top.Below = append(top.Below, below)
		if i%2 == 0 {
			top = below
		}
	}
	page := text(t, "/", source(s, h))
	assert.Contains(t, page, "and 41 more that wait")
	assert.Contains(t, page, "blocks 100")
	assert.NotContains(t, page, "No queue, no leaks")
}
