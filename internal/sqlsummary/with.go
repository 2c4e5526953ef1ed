package sqlsummary

// withFirst reads the first token after WITH: RECURSIVE, or the name of a CTE.
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

// maxAhead is how many bytes of a text are read twice, for all its WITH RECURSIVEs together.
const maxAhead = 64 << 10

// addAhead reads the CTEs of a WITH RECURSIVE, whose list begins at from, ahead of the parser, and makes them visible: each
// of them may be used in those before it.
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

// beginsMain reports whether a word begins the main statement, after the CTEs of a WITH.
func beginsMain(key keyword) bool {
	switch key {
	case kwSelect, kwTable, kwValues, kwInsert, kwUpdate, kwDelete, kwMerge:
		return true
	}
	return false
}

// withAs waits for AS after the name and the columns of a CTE.
func withAs(p *parser, t token) state {
	if t.key != kwAs {
		return withAs
	}
	if p.stack[p.depth].recursive {
		p.addCTE()
	}
	return withBody
}

// withBody waits for the parenthesis with the statement of a CTE. The CTE is visible in it only after WITH RECURSIVE.
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

// withSearch reads a SEARCH or CYCLE clause up to its SET. Commas in it separate columns, and not CTEs.
func withSearch(p *parser, t token) state {
	if t.key == kwSet {
		return withNext
	}
	return p.withMain(t, withSearch)
}

// withMain goes on with the main statement if t begins it, else stays in the state self.
func (p *parser) withMain(t token, self state) state {
	if beginsMain(t.key) {
		return p.command(t)
	}
	return self
}
