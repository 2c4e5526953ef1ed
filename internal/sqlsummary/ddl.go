package sqlsummary

import "strings"

// role is what a word between CREATE and the name is.
type role uint8

const (
	noRole       role = iota
	modifierRole      // left out of the operation
	prefixRole        // part of the operation, more follows
	kindRole          // the kind of object, the last word of the operation
)

// objectKind says how to read the name and the rest of a statement about a kind of object.
type objectKind struct {
	role       role
	collection bool // it's a table or view
	query      bool // CREATE may go on with AS query
	onTable    bool // ON names its table
	nameless   bool
}

var objects = [numKeywords]objectKind{
	kwGlobal: {role: modifierRole}, kwTemp: {role: modifierRole}, kwLocal: {role: modifierRole},
	kwRecursive: {role: modifierRole}, kwConcurrently: {role: modifierRole},
	kwPrefix: {role: prefixRole}, kwMaterialized: {role: prefixRole}, kwEvent: {role: prefixRole},
	kwCycle: {role: prefixRole}, // TEXT SEARCH
	kwOn:    {role: prefixRole}, // COMMENT ON

	kwTable:   {role: kindRole, collection: true, query: true},
	kwView:    {role: kindRole, collection: true, query: true},
	kwIndex:   {role: kindRole, onTable: true},
	kwTrigger: {role: kindRole, onTable: true},
	kwRule:    {role: kindRole, onTable: true},
	// CREATE CONSTRAINT TRIGGER; COMMENT makes a kind of it.
	kwConstraint: {role: modifierRole, onTable: true},

	kwOperator: {role: kindRole, nameless: true},
	kwNameless: {role: kindRole, nameless: true},
	kwColumn:   {role: kindRole}, kwGroup: {role: kindRole}, kwObject: {role: kindRole}, kwRole: {role: kindRole},
	kwRoutine: {role: kindRole}, kwUser: {role: kindRole},
}

// maxPrefixes is how many words there are before the kind of object at most: COMMENT ON TEXT SEARCH PARSER.
const maxPrefixes = 3

// ddlCommand is what is known of a DDL statement.
type ddlCommand struct {
	verb, kind keyword
	prefixes   int
	other      bool // the objects are no tables
	event      bool // an event trigger, which belongs to no table
}

func (d ddlCommand) use() use {
	if d.other {
		return object
	}
	return collection
}

// ddlKind reads the words up to the kind of object.
func ddlKind(p *parser, t token) state {
	if t.symbol == '(' { // REINDEX (VERBOSE) TABLE
		p.child = skip
		return ddlKind
	}
	switch o := objects[t.key]; o.role {
	case modifierRole:
		if t.key == kwConstraint && p.ddl.verb == kwComment {
			p.ddl.kind, p.ddl.other = t.key, true
			return p.extend(t, ddlName)
		}
		return ddlKind
	case prefixRole:
		if p.ddl.prefixes++; p.ddl.prefixes > maxPrefixes {
			return skip
		}
		p.ddl.event = p.ddl.event || t.key == kwEvent
		return p.extend(t, ddlKind)
	case kindRole:
		p.ddl.kind = t.key
		p.ddl.other = !o.collection
		return p.extend(t, ddlFirst)
	}
	return skip
}

// ddlFirst expects the name, or one more word of the kind: OPERATOR CLASS, USER MAPPING.
func ddlFirst(p *parser, t token) state {
	switch {
	case p.ddl.kind == kwOperator && t.key == kwClass:
		return p.extend(t, ddlName)
	case p.ddl.kind == kwUser && t.key == kwMapping:
		return p.extend(t, skip)
	case objects[p.ddl.kind].nameless && p.ddl.verb == kwAlter:
		return ddlRest(p, t) // ALTER SYSTEM SET
	case objects[p.ddl.kind].nameless:
		return skip(p, t)
	}
	return ddlName(p, t)
}

// ddlName expects the name of an object.
func ddlName(p *parser, t token) state {
	switch {
	case t.key == kwIf:
		return ddlIf
	case t.key == kwConcurrently, t.key == kwOnly:
		return ddlName
	case startsName(t):
		return p.startName(t, p.ddl.use(), ddlRest)
	}
	return ddlRest(p, t)
}

// ddlIf is the rest of IF [NOT] EXISTS.
func ddlIf(p *parser, t token) state {
	if t.key == kwNot || t.key == kwExists {
		return ddlIf
	}
	return ddlName(p, t)
}

// ddlRest is what follows the name.
func ddlRest(p *parser, t token) state {
	p.child = skip
	kind := objects[p.ddl.kind]
	switch {
	case p.ddl.verb == kwDrop && t.symbol == ',':
		return ddlName
	case p.ddl.verb == kwAlter && t.key == kwSet:
		return alterSet
	case p.ddl.verb == kwCreate && kind.query && t.key == kwAs:
		return statement
	case p.ddl.verb == kwCreate && p.ddl.kind == kwRule && t.key == kwOn:
		return untilTo
	case kind.onTable && !p.ddl.event && t.key == kwOn:
		return ddlTable
	case p.ddl.kind == kwRoutine && p.ddl.verb == kwCreate:
		return routineBody(p, t)
	}
	return ddlRest
}

// alterSet is what follows SET in ALTER: a parameter that gets a value, or something else.
func alterSet(p *parser, t token) state {
	if startsName(t) {
		return alterTo
	}
	return ddlRest(p, t)
}

// alterTo is what follows the name of a parameter, which may have several parts.
func alterTo(p *parser, t token) state {
	switch {
	case t.symbol == '.':
		return alterSet
	case t.symbol == '=', t.key == kwTo:
		return setValue
	}
	return ddlRest(p, t)
}

// untilTo waits for the table of a rule: ON INSERT TO t.
func untilTo(p *parser, t token) state {
	if t.key == kwTo {
		return ddlTable
	}
	return untilTo
}

// ddlTable expects the table an index, a trigger, … belongs to.
func ddlTable(p *parser, t token) state {
	switch {
	case t.key == kwOnly:
		return ddlTable
	case p.ddl.kind == kwConstraint && strings.EqualFold(p.text(t), "domain"):
		return ddlDomain
	case startsName(t):
		return p.startName(t, collection, skip)
	}
	return skip
}

// ddlDomain expects the domain that a constraint belongs to. If none comes, the word DOMAIN was the name of a table.
func ddlDomain(p *parser, t token) state {
	if startsName(t) && !strings.EqualFold(p.text(t), "is") {
		return p.startName(t, object, skip)
	}
	p.summary.addTarget(p.text(p.prev), true)
	return skip(p, t)
}

// routineBody ignores the rest of CREATE FUNCTION, but sees where BEGIN ATOMIC ends, as there are semicolons before.
func routineBody(p *parser, t token) state {
	p.child = skip
	switch {
	case t.key == kwAtomic && p.prev.key == kwBegin, t.key == kwCase && p.atomic > 0:
		p.atomic++
	case t.key == kwEnd && p.atomic > 0:
		p.atomic--
	}
	return routineBody
}
