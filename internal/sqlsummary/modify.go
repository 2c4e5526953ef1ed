package sqlsummary

// insertInto expects the table after INSERT INTO.
func insertInto(p *parser, t token) state {
	if t.key == kwInto {
		return insertInto
	}
	return p.oneTable(t, object, insertInto, insertRows)
}

// insertRows waits for what is inserted: a query or VALUES, which is no operation here.
func insertRows(p *parser, t token) state {
	switch p.clause(t) {
	case kwSelect, kwWith, kwTable:
		return p.query(t)
	case kwValues, kwOn, kwReturning:
		return tail
	case kwExcept:
		return setOperation
	}
	return insertRows
}

// updateTable expects the table after UPDATE.
func updateTable(p *parser, t token) state { return p.oneTable(t, object, updateTable, updateSet) }

// updateSet reads the rest of an UPDATE up to FROM, after which tables follow.
func updateSet(p *parser, t token) state {
	switch p.clause(t) {
	case kwFrom:
		if p.prev.key != kwDistinct {
			return fromNext
		}
	case kwTail, kwReturning:
		return tail
	}
	return updateSet
}

// deleteFrom expects the table after DELETE FROM.
func deleteFrom(p *parser, t token) state {
	if t.key == kwFrom {
		return deleteFrom
	}
	return p.oneTable(t, object, deleteFrom, untilUsing)
}

// mergeInto expects the table after MERGE INTO.
func mergeInto(p *parser, t token) state {
	if t.key == kwInto {
		return mergeInto
	}
	return p.oneTable(t, object, mergeInto, untilUsing)
}

// untilUsing waits for USING in DELETE and MERGE, after which tables follow.
func untilUsing(p *parser, t token) state {
	switch p.clause(t) {
	case kwUsing:
		return fromNext
	case kwTail, kwReturning:
		return tail
	}
	return untilUsing
}
