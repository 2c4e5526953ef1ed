package sqlsummary

// The summary of a DDL statement is its verb and the kind of object, as CREATE INDEX. Tables and views are named too, since
// these are what the statements of a service use; other objects are not. What an object consists of is left out, except for
// the query of CREATE TABLE t AS.

// ddlKind reads the words between the verb and the name: the kind of object, and words such as OR REPLACE, which are left
// out.
func ddlKind(p *parser, t token) state {
	switch t.key {
	case kwModifier, kwLocal, kwRecursive:
		return ddlKind
	case kwPrefix:
		return p.extend(t, ddlKind)
	case kwTable, kwView:
		return p.extend(t, ddlName)
	case kwKind:
		return p.extend(t, ddlRest)
	}
	if t.symbol == '(' { // REINDEX (VERBOSE) TABLE
		p.child = skip
		return ddlKind
	}
	return ddlRest(p, t)
}

// ddlName expects the name of a table or view.
func ddlName(p *parser, t token) state {
	switch {
	case t.key == kwOnly, t.key == kwOption:
		return ddlName
	case !startsName(t):
		return ddlRest(p, t)
	case p.verb == kwCreate:
		return p.startName(t, object, untilAs)
	case p.verb == kwDrop:
		return p.startName(t, object, list)
	}
	return p.startName(t, object, ddlRest)
}

// ddlRest reads what follows the kind or the name. In ALTER it waits for SET: a setting may get a value, which is hidden.
func ddlRest(p *parser, t token) state {
	p.child = skip
	if p.verb == kwAlter && t.key == kwSet {
		return alterSet
	}
	return ddlRest
}

// alterSet reads what follows SET in ALTER: the name of a setting, or something else.
func alterSet(p *parser, t token) state {
	if startsName(t) {
		return alterTo
	}
	return ddlRest(p, t)
}

// alterTo reads what follows the name of a setting in ALTER … SET: a dot and another part, or = or TO and the value. If
// another word follows, what came before may not have been a setting (ALTER ROLE set SET …), and the word may be one.
func alterTo(p *parser, t token) state {
	switch {
	case t.symbol == '.':
		return alterSet
	case startsName(t):
		return alterTo
	case t.symbol == '=', t.key == kwTo:
		return setValue
	}
	return ddlRest(p, t)
}
