package sqlsummary

// statement expects a statement: at the beginning of the text, in the body of a CTE, after PREPARE p AS, …
func statement(p *parser, t token) state {
	switch {
	case t.symbol == '(':
		p.child = statement
		return tail
	case t.kind == word:
		if p.depth == 0 {
			p.returning = false // of the statement before
		}
		return p.command(t)
	}
	return statement
}

// command returns the state after the first word of a statement, which is t.
func (p *parser) command(t token) state {
	switch t.key {
	case kwSelect, kwWith, kwTable, kwValues:
		return p.query(t)
	case kwInsert:
		return p.operation(t, insertInto)
	case kwUpdate:
		return p.operation(t, updateTable)
	case kwDelete:
		return p.operation(t, deleteFrom)
	case kwMerge:
		return p.operation(t, mergeInto)
	case kwExplain:
		return p.operation(t, explain)
	}
	return p.utility(t)
}

// query returns the state after the first word of a query, which is t. VALUES is an operation only outside of parentheses.
func (p *parser) query(t token) state {
	switch t.key {
	case kwSelect:
		return p.operation(t, selectList)
	case kwTable:
		return p.operation(t, tableName)
	case kwWith:
		return withFirst
	case kwValues:
		if p.depth == 0 {
			p.summary.addOperation(p.text(t))
		}
	}
	return tail
}

// operand reads the first token of a parenthesis in an expression, which may be a subquery.
func operand(p *parser, t token) state {
	switch t.key {
	case kwSelect, kwWith, kwTable:
		return p.query(t)
	}
	if t.symbol == '(' {
		return tail // ((SELECT …) UNION …), or an expression
	}
	return expression
}

// expression reads an expression, in which only parentheses are of interest.
func expression(p *parser, t token) state { return expression }

// selectList reads what follows SELECT, up to FROM or INTO.
func selectList(p *parser, t token) state {
	switch p.clause(t) {
	case kwFrom:
		if p.prev.key != kwDistinct { // IS DISTINCT FROM
			return fromNext
		}
	case kwInto:
		return selectInto
	case kwTail, kwFetch, kwGroup, kwFor:
		return tail
	case kwExcept:
		return setOperation
	}
	return selectList
}

// selectInto expects the table that SELECT … INTO creates.
func selectInto(p *parser, t token) state {
	switch t.key {
	case kwLocal, kwModifier, kwTable:
		return selectInto
	}
	if startsName(t) {
		return p.startName(t, object, selectList)
	}
	return selectList(p, t)
}

// fromNext expects a table in a list of tables.
func fromNext(p *parser, t token) state {
	switch {
	case t.key == kwOnly, t.key == kwLateral:
		return fromNext
	case t.symbol == '(':
		p.child = fromParen
		return fromList
	case startsName(t):
		return p.startName(t, fromItem, fromList)
	}
	return fromList(p, t)
}

// fromParen reads the first token of a parenthesis in a list of tables: of a subquery or a join.
func fromParen(p *parser, t token) state {
	switch t.key {
	case kwSelect, kwWith, kwTable, kwValues:
		return p.query(t)
	}
	return fromNext(p, t)
}

// fromList reads what follows a table in a list of tables, up to the next table or the end of the list.
func fromList(p *parser, t token) state {
	if t.symbol == ',' {
		return fromNext
	}
	switch p.clause(t) {
	case kwJoin:
		return fromNext
	case kwTail, kwFetch, kwGroup, kwFor, kwReturning, kwSet:
		return tail
	case kwExcept:
		return setOperation
	}
	return fromList
}

// tail reads the rest of a statement, in which only UNION, INTERSECT and EXCEPT are of interest.
func tail(p *parser, t token) state {
	if p.clause(t) == kwExcept {
		return setOperation
	}
	return tail
}

// setOperation reads what follows UNION, INTERSECT or EXCEPT.
func setOperation(p *parser, t token) state {
	switch t.key {
	case kwAll, kwDistinct:
		return setOperation
	case kwSelect, kwTable:
		return p.query(t)
	}
	return tail
}

// tableName expects the table of TABLE t.
func tableName(p *parser, t token) state { return p.oneTable(t, fromItem, tableName, tail) }

// oneTable is what a state does that expects one table and goes on with then; self is that state.
func (p *parser) oneTable(t token, u use, self, then state) state {
	switch {
	case t.key == kwOnly:
		return self
	case t.symbol == '(': // ONLY (t)
		p.child = fromParen
		return then
	case startsName(t):
		return p.startName(t, u, then)
	}
	return then(p, t)
}
