package debugpage

import (
	"cmp"
	"slices"
	"strings"

	"github.com/pgprod/pgprod/internal/activity"
)

// An order is a column with numbers, by which statements can be sorted, the largest first: ?sort=Name.
type order struct {
	Name  string
	Head  string // of the column
	Means string // follows "sorted by" in a heading
	value func(*activity.Statement) int64
}

// orders are the columns with numbers, from left to right.
var orders = []order{
	{"count", "count", "count", func(s *activity.Statement) int64 { return s.Count }},
	{"errors", "errors", "errors", func(s *activity.Statement) int64 { return s.Errors }},
	{"total", "total", "time in all", func(s *activity.Statement) int64 { return int64(s.Total) }},
	{"waited", "waited", "time waited for a connection", func(s *activity.Statement) int64 { return int64(s.Waited) }},
	{"server", "server", "time of the server", func(s *activity.Statement) int64 { return int64(s.Server) }},
	{"reading", "reading", "time of reading", func(s *activity.Statement) int64 { return int64(s.Read) }},
	{"p50", "p50", "median", func(s *activity.Statement) int64 { return int64(s.P50) }},
	{"p95", "p95", "95th percentile", func(s *activity.Statement) int64 { return int64(s.P95) }},
	{"p99", "p99", "99th percentile", func(s *activity.Statement) int64 { return int64(s.P99) }},
	{"max", "max", "longest", func(s *activity.Statement) int64 { return int64(s.Max) }},
	{"rows", "rows", "rows", func(s *activity.Statement) int64 { return s.Rows }},
}

// orderOf returns the order with a name. Without one it is the total time, since that is what fills a pool.
func orderOf(name string) order {
	for _, o := range orders {
		if o.Name == name {
			return o
		}
	}
	return orderOf("total")
}

// top is the beginning of a list.
type top[T any] struct {
	Rows []T
	More int // how many are left out
}

// first returns the first elements of a list, at most this many.
func first[T any](all []T, most int) top[T] {
	n := min(len(all), most)
	return top[T]{all[:n], len(all) - n}
}

// sorted returns the first statements in an order. It doesn't change all.
func sorted(all []activity.Statement, o order) top[statement] {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b activity.Statement) int {
		return cmp.Or(cmp.Compare(o.value(&b), o.value(&a)), cmp.Compare(b.Total, a.Total), strings.Compare(a.Summary, b.Summary))
	})
	shown := first(all, mostRows)
	rows := make([]statement, len(shown.Rows))
	for i := range rows {
		rows[i] = newStatement(&shown.Rows[i])
	}
	return top[statement]{rows, shown.More}
}

// statement is a row of the table.
type statement struct {
	Summary string
	Plan    *activity.Plan // nil: none of them was slow, or plans are off
	Cells   []cell         // one for each of orders
}

// cell is a number in the table.
type cell struct {
	Head  string // of its column
	Text  string // the number as it is shown
	Value int64  // the number by which the script sorts
	Bad   bool   // it is shown as something bad
}

// newStatement returns the row of the table for a statement.
func newStatement(s *activity.Statement) statement {
	row := statement{s.Summary, s.Plan, make([]cell, len(orders))}
	for i, o := range orders {
		v := o.value(s)
		c := cell{Head: o.Head, Value: v, Bad: o.Name == "errors" && v > 0}
		switch o.Name {
		case "count", "errors", "rows":
			c.Text = count(v)
		default:
			c.Text = duration(asDuration(v))
		}
		row.Cells[i] = c
	}
	return row
}
