package sqlsummary

// withFirst is what follows WITH.
func withFirst(p *parser, t token) state {
	f := &p.stack[p.depth]
	f.recursive = t.key == kwRecursive
	if f.recursive {
		return withName
	}
	return withName(p, t)
}

// withName expects the name of a CTE.
func withName(p *parser, t token) state {
	if startsName(t) {
		return p.startName(t, cte, withAs)
	}
	return withAs(p, t)
}

// withAs waits for the AS after the name and the columns of a CTE.
func withAs(p *parser, t token) state {
	if t.key != kwAs {
		return withAs
	}
	if p.stack[p.depth].recursive {
		p.addCTE()
	}
	return withBody
}

// withBody waits for the statement in parentheses, in which the CTE isn't visible unless recursive.
func withBody(p *parser, t token) state {
	if t.symbol != '(' {
		return withBody
	}
	p.child = statement
	return withNext
}

// withNext expects the next CTE or the main statement.
func withNext(p *parser, t token) state {
	p.addCTE()
	switch {
	case t.symbol == ',':
		return withName
	case t.symbol == '(':
		p.child = statement
		return tail
	case t.key == kwCycle:
		return withSearch
	}
	return p.withMain(t, withNext)
}

// withSearch is a SEARCH or CYCLE clause up to its SET: in it, commas separate columns.
func withSearch(p *parser, t token) state {
	if t.key == kwSet {
		return withNext
	}
	return p.withMain(t, withSearch)
}

// withMain leaves the state self for the main statement.
func (p *parser) withMain(t token, self state) state {
	switch t.key {
	case kwSelect, kwTable, kwValues, kwInsert, kwUpdate, kwDelete, kwMerge:
		return p.command(t)
	}
	return self
}
