package sqlsummary

// withFirst is what follows WITH.
func withFirst(p *parser, t token) state {
	f := &p.stack[p.depth]
	f.recursive = t.key == kwRecursive
	if f.recursive {
		p.addAhead(t.end)
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

// maxAhead bounds how much of a text is read twice, because of all its WITH RECURSIVEs.
const maxAhead = 64 << 10

// addAhead makes the CTEs of a WITH RECURSIVE visible, whose list begins at from: each may be used before it comes.
func (p *parser) addAhead(from int) {
	depth, named, columns := 0, false, false
	for l := (lexer{src: p.src, pos: from}); ; {
		t := l.next()
		if p.ahead += t.end - t.start; p.ahead > maxAhead || t.kind == end {
			return
		}
		switch {
		case t.symbol == '(', t.symbol == '[':
			depth++
		case t.symbol == ')', t.symbol == ']':
			if depth--; depth < 0 {
				return
			}
		case depth > 0:
		case t.symbol == ';':
			return
		case !named && startsName(t):
			p.stack[p.depth].cte = p.text(t)
			p.addCTE()
			named = true
		case t.symbol == ',':
			named = columns
		case t.key == kwCycle, t.key == kwSet: // as in withSearch
			columns = t.key == kwCycle
		case named && beginsMain(t.key):
			return
		}
	}
}

// beginsMain reports whether a word begins the main statement, behind the list of WITH.
func beginsMain(key keyword) bool {
	switch key {
	case kwSelect, kwTable, kwValues, kwInsert, kwUpdate, kwDelete, kwMerge:
		return true
	}
	return false
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
	if beginsMain(t.key) {
		return p.command(t)
	}
	return self
}
