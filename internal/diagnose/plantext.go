package diagnose

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/sqlsummary"
)

const (
	// maxPlanLines and maxPlanLine bound a plan that is kept, in lines and in bytes of one line. Tables with many
	// partitions have long plans.
	maxPlanLines = 200
	maxPlanLine  = 300
)

// A planNode is a node of a plan, as EXPLAIN (FORMAT JSON) has it.
type planNode map[string]json.RawMessage

// expressions are the properties of a node that contain expressions, in the order in which they are shown.
var expressions = []string{
	"Output", "Group Key", "Sort Key", "Presorted Key", "Function Call", "Table Function Call", "Index Cond", "Recheck Cond",
	"TID Cond", "Order By", "Hash Cond", "Merge Cond", "Join Filter", "Filter", "One-Time Filter", "Window", "Run Condition",
	"Cache Key", "Conflict Filter",
}

// planFacts are the properties of a node whose values the server makes, or that are names. Whatever is neither among
// these nor among the expressions nor in the title isn't shown: what an extension adds may contain literals, as the
// Remote SQL of a foreign table does.
var planFacts = []string{
	"CTE Name", "Conflict Resolution", "Conflict Arbiter Indexes", "Workers Planned", "Subplans Removed", "Inner Unique",
	"Disabled",
}

// readPlan reads the answer to EXPLAIN (VERBOSE, FORMAT JSON). It returns the plan as text without literals, and the query's
// identifier, 0 if there is none.
func readPlan(answer []byte) (text string, queryID int64, err error) {
	var all []struct {
		Plan    planNode
		QueryID int64 `json:"Query Identifier"`
	}
	if err := json.Unmarshal(answer, &all); err != nil || len(all) == 0 {
		return "", 0, errNoPlan
	}
	var b planText
	for i, one := range all { // a rule may have made several of one
		if i > 0 {
			b.line(0, "")
		}
		b.node(0, one.Plan)
	}
	return strings.Join(b.lines, "\n"), all[0].QueryID, nil
}

// A planText is the text of a plan that is being made.
type planText struct {
	lines []string
}

// line adds a line, unless there are too many.
func (b *planText) line(indent int, text string) {
	switch len(b.lines) {
	case maxPlanLines:
		b.lines = append(b.lines, "…")
		return
	case maxPlanLines + 1:
		return
	}
	b.lines = append(b.lines, strings.Repeat(" ", min(indent, maxPlanLine))+activity.Shorten(text, maxPlanLine))
}

// node adds a node with its properties and all below it.
func (b *planText) node(indent int, n planNode) {
	if len(b.lines) > maxPlanLines {
		return
	}
	arrow := ""
	if indent > 0 {
		arrow = "->  "
	}
	b.line(indent, arrow+n.title())
	indent += len(arrow) + 2
	for _, key := range expressions {
		if value := n.masked(key); value != "" {
			b.line(indent, key+": "+value)
		}
	}
	for _, key := range planFacts {
		if value := n.fact(key); value != "" && value != "false" {
			b.line(indent, key+": "+value)
		}
	}
	var below []planNode
	_ = json.Unmarshal(n["Plans"], &below)
	for _, one := range below {
		b.node(indent, one)
	}
}

// title returns a node's first line, such as "Index Scan using orders_pkey on shop.orders o  (cost=0.42..8.44 rows=1
// width=36)".
func (n planNode) title() string {
	var b strings.Builder
	if name := n.text("Subplan Name"); name != "" {
		b.WriteString(name + ": ")
	}
	if n.text("Parallel Aware") == "true" {
		b.WriteString("Parallel ")
	}
	b.WriteString(n.text("Node Type"))
	for _, key := range []string{"Operation", "Join Type", "Command", "Strategy", "Partial Mode", "Scan Direction"} {
		switch word := n.text(key); word {
		case "", "Inner", "Plain", "Simple", "Forward":
		default:
			b.WriteString(" " + word)
		}
	}
	if index := n.text("Index Name"); index != "" {
		b.WriteString(" using " + index)
	}
	if of := n.relation(); of != "" {
		b.WriteString(" on " + of)
	}
	return strings.TrimPrefix(b.String(), "ModifyTable ") + n.estimates()
}

// relation names what a node reads or writes, with its alias.
func (n planNode) relation() string {
	name := cmp.Or(n.text("Relation Name"), n.text("Function Name"))
	if schema := n.text("Schema"); schema != "" && name != "" {
		name = schema + "." + name
	}
	if alias := n.text("Alias"); alias != "" && !strings.HasSuffix(name, "."+alias) {
		name = strings.TrimSpace(name + " " + alias)
	}
	return name
}

// estimates returns what the planner expects of a node. The number of rows has two digits, since that of a LIMIT is a
// literal.
func (n planNode) estimates() string {
	return fmt.Sprintf("  (cost=%.2f..%.2f rows=%.0f width=%.0f)",
		n.number("Startup Cost"), n.number("Total Cost"), rounded(n.number("Plan Rows")), n.number("Plan Width"))
}

// number returns a property that is a number, 0 if there is no such property.
func (n planNode) number(key string) (number float64) {
	_ = json.Unmarshal(n[key], &number)
	return number
}

// rounded is a number of rows with its first two digits.
func rounded(rows float64) float64 {
	if rows < 100 || math.IsInf(rows, 0) || math.IsNaN(rows) {
		return rows
	}
	unit := math.Pow(10, math.Floor(math.Log10(rows))-1)
	return math.Round(rows/unit) * unit
}

// text returns a property that is a text, a number or true or false; "" if there is no such property.
func (n planNode) text(key string) string {
	var text string
	if json.Unmarshal(n[key], &text) == nil {
		return text
	}
	if raw := string(n[key]); raw != "" && raw != "null" && raw[0] != '[' && raw[0] != '{' {
		return raw
	}
	return ""
}

// list returns a property that is a list of texts, or a single text, as a list.
func (n planNode) list(key string) (all []string) {
	if json.Unmarshal(n[key], &all) == nil {
		return all
	}
	if text := n.text(key); text != "" {
		return []string{text}
	}
	return nil
}

// fact returns a property that is shown as it is.
func (n planNode) fact(key string) string { return strings.Join(n.list(key), ", ") }

// hidden is shown in place of an expression that can't be masked for certain.
const hidden = "(not shown)"

// masked returns a property of expressions without their literals, "" if there is no such property.
func (n planNode) masked(key string) string {
	all := n.list(key)
	for i, expression := range all {
		masked, certain := sqlsummary.Masked(subplans.ReplaceAllString(expression, "${1}_$2"))
		if !certain || !utf8.ValidString(expression) {
			masked = hidden
		}
		all[i] = masked
		if i == maxPlanLine {
			return strings.Join(all[:i], ", ") // the rest has no room in a line
		}
	}
	return strings.Join(all, ", ")
}

// subplans are the numbers by which expressions refer to other parts of the plan. They become part of a name, as which
// they are not taken for literals. In a string of the statement this makes no difference, since that is hidden.
var subplans = regexp.MustCompile(`\b(InitPlan|SubPlan) ([0-9]+)\b`)
