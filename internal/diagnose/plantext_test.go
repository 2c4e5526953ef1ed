package diagnose

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAPlanShowsOnlyWhatIsKnownToHaveNoLiterals(t *testing.T) {
	t.Parallel()
	text, id, err := readPlan([]byte(`[{"Query Identifier": -8117, "Settings": {"search_path": "geheim"}, "Plan": {
		"Node Type": "Hash Join", "Join Type": "Left", "Parallel Aware": true, "Startup Cost": 1, "Total Cost": 2.5, "Plan Rows": 47110,
		"Plan Width": 8,
		"Hash Cond": "(a.id = (SubPlan 4))", "Join Filter": "(a.x = 'geheim", "Remote SQL": "SELECT 'geheim'", "Relations": "geheim",
		"Custom Thing": "4711", "Inner Unique": false, "Workers Planned": 2,
		"Output": ["a.id", "E'geheim'", "'geheim SubPlan 4711'::text"],
		"Plans": [{"Node Type": "Foreign Scan", "Operation": "Select", "Schema": "shop", "Relation Name": "a", "Alias": "a",
			"Remote SQL": "SELECT id FROM a WHERE x = 4711", "Plan Rows": 4}]}}]`))
	require.NoError(t, err)
	assert.EqualValues(t, -8117, id)
	assert.Equal(t, `Parallel Hash Join Left  (cost=1.00..2.50 rows=47000 width=8)
  Output: a.id, (not shown), '?'::text
  Hash Cond: (a.id = (SubPlan_4))
  Join Filter: (not shown)
  Workers Planned: 2
  ->  Foreign Scan Select on shop.a  (cost=0.00..0.00 rows=4 width=0)`, text)
}

func TestAPlanIsBounded(t *testing.T) {
	t.Parallel()
	node := map[string]any{"Node Type": "Append"}
	for range 2 * maxPlanLines {
		node = map[string]any{
			"Node Type": "Result", "Output": []string{strings.Repeat("ä", maxPlanLine)}, "Plans": []any{node},
		}
	}
	answer, err := json.Marshal([]any{map[string]any{"Plan": node}})
	require.NoError(t, err)
	text, _, err := readPlan(answer)
	require.NoError(t, err)
	assert.Len(t, strings.Split(text, "\n"), maxPlanLines+1)
	assert.Less(t, len(text), maxPlanLines*(2*maxPlanLine+10))
	for _, no := range []string{"", "[]", "null", "{}", "4", `[{"Plan": 4}]`} {
		_, _, err := readPlan([]byte(no))
		assert.ErrorIs(t, err, errNoPlan, no)
	}
}
