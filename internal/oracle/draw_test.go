package oracle

import (
	"math/bits"
	"slices"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/pgprod/pgprod"
)

// modes are those of default_query_exec_mode.
var modes = []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"}

// allRiders are all combinations of what may travel. The first are the defaults.
var allRiders = func() (all []riders) {
	for _, begin := range []string{pgprod.BeginLazy, pgprod.BeginEager} {
		for _, reset := range []string{pgprod.PoolResetAuto, pgprod.PoolResetAlways} {
			for _, trace := range []string{pgprod.TraceContextOff, pgprod.TraceContextApplicationName} {
				all = append(all, riders{begin, reset, trace, false}, riders{begin, reset, trace, true})
			}
		}
	}
	return all
}()

// A kind of step, and how often it is drawn.
type kind struct {
	weight int
	draw   func(*rapid.T) step
}

// aProgram draws programs. The first of each list is what a program shrinks to.
var aProgram = rapid.Custom(func(t *rapid.T) program {
	return program{
		mode:   pick(t, "mode", append([]string{"cache_statement", "cache_statement", "cache_statement"}, modes...)),
		conns:  pick(t, "connections", []int{1, 3}),
		riders: pick(t, "riders", allRiders),
		steps:  slices.Concat(append([][]step{pick(t, "beginning", beginnings)}, rapid.SliceOfN(rapid.Custom(drawSteps), 1, 16).Draw(t, "steps")...)...),
	}
})

// beginnings make sure that there is something to work with.
var beginnings = [][]step{
	nil,
	{begin{place: place{"db", 0}}},
	{openConn{0}},
	{openConn{0}, begin{place: place{"conn", 0}}},
	{begin{place: place{"db", 0}, ends: byRequest}},
}

func pick[E any](t *rapid.T, label string, from []E) E { return from[number(t, label, len(from))] }

// number draws one of n numbers. It does so bit by bit, since rapid's own numbers are small ones as a rule.
func number(t *rapid.T, label string, n int) (drawn int) {
	for range bits.Len(uint(n-1)) + 3 {
		drawn *= 2
		if rapid.Bool().Draw(t, label) {
			drawn++
		}
	}
	return drawn % n
}

// slot draws the number of a handle, the first as a rule.
func slot(t *rapid.T, label string, n int) int {
	return max(0, number(t, label, n+3)-3)
}

var stepKinds = []kind{
	{8, func(t *rapid.T) step { return exec{drawCall(t)} }},
	{8, func(t *rapid.T) step {
		return query{call: drawCall(t), rows: slot(t, "rows", maxRows), read: drawReading(t)}
	}},
	{5, func(t *rapid.T) step {
		return queryRow{call: drawCall(t), row: slot(t, "row", maxRow), scan: pick(t, "scan", append([]string{"", ""}, destinations...)), width: 1 + number(t, "width", 3)}
	}},
	{7, func(t *rapid.T) step {
		return read{rows: slot(t, "rows", maxRows), read: drawReading(t), into: pick(t, "into", destinations)}
	}},
	{2, func(t *rapid.T) step { return closeRows{slot(t, "rows", maxRows)} }},
	{1, func(t *rapid.T) step { return nextSet{slot(t, "rows", maxRows)} }},
	{2, func(t *rapid.T) step {
		return scanRow{slot(t, "row", maxRow), pick(t, "into", destinations), 1 + number(t, "width", 3)}
	}},
	{6, func(t *rapid.T) step {
		return begin{
			place: pick(t, "place", []place{{"db", 0}, {"db", 0}, {"conn", 0}, {"conn", 1}}), tx: slot(t, "tx", maxTxs),
			isolation: pick(t, "isolation", []int{0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7}), readOnly: pick(t, "read-only", []bool{false, false, false, true}),
			ends: drawMoment(t),
		}
	}},
	{4, func(t *rapid.T) step { return end{slot(t, "tx", maxTxs), rapid.Bool().Draw(t, "commit")} }},
	{4, func(t *rapid.T) step { return openConn{slot(t, "conn", maxConns)} }},
	{2, func(t *rapid.T) step { return closeConn{slot(t, "conn", maxConns)} }},
	{1, func(t *rapid.T) step { return ping{pick(t, "place", []place{{"db", 0}, {"conn", 0}}), drawMoment(t)} }},
	{3, func(t *rapid.T) step { return raw{slot(t, "conn", maxConns), pick(t, "what", raws)} }},
	{4, func(t *rapid.T) step {
		return prepare{place: drawPlace(t, false), stmt: slot(t, "stmt", maxStmts), text: drawStatement(t), ends: drawMoment(t)}
	}},
	{1, func(t *rapid.T) step {
		return txStmt{slot(t, "tx", maxTxs), slot(t, "from", maxStmts), slot(t, "stmt", maxStmts)}
	}},
	{1, func(t *rapid.T) step { return closeStmt{slot(t, "stmt", maxStmts)} }},
	{1, func(t *rapid.T) step { return share{drawPlace(t, false), rapid.IntRange(2, 5).Draw(t, "goroutines")} }},
	{1, func(t *rapid.T) step {
		return cut{drawPlace(t, false), pick(t, "how", ways), rapid.Bool().Draw(t, "deadline")}
	}},
	{1, func(t *rapid.T) step { return panicking{drawPlace(t, false), pick(t, "how", ways)} }},
	{1, func(t *rapid.T) step { return terminate{} }},
	{1, func(t *rapid.T) step { return closeDB{} }},
	{1, func(t *rapid.T) step {
		return cancel{pick(t, "place", []place{{"rows", 0}, {"rows", 1}, {"tx", 0}, {"tx", 1}})}
	}},
}

// weighted has each kind as often as its weight says.
func weighted(kinds []kind) (all []int) {
	for i, k := range kinds {
		for range k.weight {
			all = append(all, i)
		}
	}
	return all
}

var kindsByWeight = weighted(stepKinds)

func drawStep(t *rapid.T) step {
	return stepKinds[pick(t, "kind", kindsByWeight)].draw(t)
}

// drawSteps draws one step as a rule, and sometimes several that make sense together.
func drawSteps(t *rapid.T) []step {
	if number(t, "together", 3) < 2 {
		return []step{drawStep(t)}
	}
	return pick(t, "which", together)(t)
}

var together = []func(*rapid.T) []step{
	func(t *rapid.T) []step { // two results, read one after the other
		at := pick(t, "place", []place{onTx, onConn})
		return []step{
			query{call: drawCall(t).by(at), rows: 0}, query{call: drawCall(t).by(at), rows: 1},
			read{rows: 0, read: whole, into: destinations[0]}, read{rows: 1, read: whole, into: destinations[0]},
		}
	},
	func(t *rapid.T) []step { // rows that are scanned late
		at := pick(t, "place", []place{onTx, onConn})
		return []step{
			queryRow{call: drawCall(t).by(at), row: 0}, queryRow{call: drawCall(t).by(at), row: 1},
			scanRow{row: 0, into: destinations[0], width: 1}, scanRow{row: 1, into: destinations[0], width: 1},
		}
	},
	func(t *rapid.T) []step { // a transaction
		return []step{
			begin{place: pick(t, "place", []place{onDB, onConn})}, exec{drawCall(t).by(onTx)}, exec{drawCall(t).by(onTx)},
			end{0, rapid.Bool().Draw(t, "commit")},
		}
	},
	func(t *rapid.T) []step { // a prepared statement
		at := place{"stmt", 0}
		return []step{
			prepare{place: pick(t, "place", []place{onDB, onTx, onConn}), text: drawStatement(t)},
			pick(t, "first", []step{exec{drawCall(t).by(at)}, txStmt{0, 0, 1}, closeStmt{0}}),
			query{call: drawCall(t).by(at), read: drawReading(t)}, queryRow{call: drawCall(t).by(place{"stmt", 1}), scan: "any", width: 1},
		}
	},
	func(t *rapid.T) []step { // a *sql.Conn and what is below it
		return []step{openConn{0}, raw{0, pick(t, "what", raws)}, exec{drawCall(t).by(onConn)}, closeConn{0}}
	},
	func(t *rapid.T) []step { // rows whose context ends
		c := drawCall(t).by(pick(t, "place", []place{onDB, onTx, onConn}))
		c.ends = byRequest
		return []step{query{call: c, read: drawReading(t)}, cancel{place{"rows", 0}}, read{rows: 0, read: whole, into: destinations[0]}}
	},
	func(t *rapid.T) []step { // a transaction whose context ends
		return []step{begin{place: pick(t, "place", []place{onDB, onConn}), ends: byRequest}, query{call: drawCall(t).by(onTx)}, cancel{onTx}}
	},
	func(t *rapid.T) []step { // several results of one text
		c := call{place: pick(t, "place", []place{onDB, onTx, onConn}), text: pick(t, "text", severals), mode: pgx.QueryExecModeSimpleProtocol}
		return []step{query{call: c}, read{rows: 0, read: drawReading(t), into: destinations[0]}, nextSet{0}, read{rows: 0, read: whole, into: destinations[0]}}
	},
	func(t *rapid.T) []step { // a change of the schema between twice the same
		c := call{place: pick(t, "place", []place{onDB, onTx, onConn}), text: drawStatement(t), variant: number(t, "variant", 12)}
		change := pick(t, "change", schemas)
		return []step{query{call: c, read: whole}, exec{call{place: c.place, text: change}}, query{call: c, read: whole}}
	},
	func(t *rapid.T) []step { // savepoints
		at := func(s statement) step { return exec{call{place: onTx, text: s}} }
		return []step{at(savepoint), exec{drawCall(t).by(onTx)}, at(rollbackTo), exec{drawCall(t).by(onTx)}}
	},
}

// by is a call by another place.
func (c call) by(p place) call {
	c.place = p
	return c
}

func drawPlace(t *rapid.T, stmt bool) place {
	places := []place{onDB, onDB, onDB, onTx, onTx, onTx, onTx, onConn, onConn, onConn, {"tx", 1}, {"conn", 1}}
	if stmt {
		places = append(places, place{"stmt", 0}, place{"stmt", 1})
	}
	return pick(t, "place", places)
}

func drawStatement(t *rapid.T) statement {
	groups := [][]statement{readings, readings, readings, writings, writings, typed, typed, failings, transactions, sessions, schemas, severals}
	return pick(t, "statement", pick(t, "group", groups))
}

func drawCall(t *rapid.T) call {
	return call{
		place: drawPlace(t, true), text: drawStatement(t), variant: number(t, "variant", 12),
		mode: pick(t, "mode of the call", append(make([]pgx.QueryExecMode, 20),
			pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeDescribeExec,
			pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeCacheStatement)),
		ends: drawMoment(t),
	}
}

func drawMoment(t *rapid.T) moment {
	return pick(t, "context", []moment{never, never, never, never, never, never, never, never, byRequest, byRequest, byRequest, cancelled, expired})
}

func drawReading(t *rapid.T) reading {
	return pick(t, "reading", []reading{whole, untouched, untouched, whole, 1, 2})
}
