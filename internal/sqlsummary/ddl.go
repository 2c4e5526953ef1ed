package sqlsummary

// A statement of DDL is named by its verb and the kind of object, CREATE INDEX, and one about tables or views by their
// names too, as it is these that a service's own statements use. Other names are left out, and so is what an object is
// made of, but for the query of CREATE TABLE t AS.

// ddlKind reads the words between the verb and the name: noise such as OR REPLACE, and the kind of object.
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
		return p.startName(t, collection, untilAs)
	case p.verb == kwDrop:
		return p.startName(t, collection, list)
	}
	return p.startName(t, collection, ddlRest)
}

// ddlRest is what follows the kind or the name. Of ALTER it may have the value of a parameter in it, which is hidden.
func ddlRest(p *parser, t token) state {
	p.child = skip
	if p.verb == kwAlter && t.key == kwSet {
		return alterSet
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

// alterTo is what follows the name of a parameter, which may have several parts. If another word comes, the SET before was
// the name of what is altered, or what is set is no parameter.
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
