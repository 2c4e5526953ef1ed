package sqlsummary

import "strings"

// utility returns the state after the first word, which is t, of a statement that is no query. The summary of most of them
// is that word alone.
func (p *parser) utility(t token) state {
	p.verb = t.key
	switch t.key {
	case kwSimple, kwFetch, kwImport:
		return p.operation(t, skip)
	case kwPrepare:
		return p.operation(t, untilAs)
	case kwDeclare:
		return p.operation(t, untilFor)
	case kwCopy:
		return p.operation(t, copyWhat)
	case kwCall, kwListen:
		return p.operation(t, objectName)
	case kwTruncate, kwAnalyze:
		return p.operation(t, listNext)
	case kwCreate, kwAlter, kwDrop, kwRefresh:
		return p.operation(t, ddlKind)
	case kwSet, kwShow:
		return p.operation(t, setting)
	}
	return skip
}

// explain expects the options of EXPLAIN, and then its statement.
func explain(p *parser, t token) state {
	switch {
	case t.key == kwAnalyze, t.key == kwOption, t.symbol == '(':
		return explain
	case t.key == kwExcept: // after a query in parentheses
		return setOperation
	case t.kind == word:
		return p.command(t)
	}
	return explain
}

// untilAs waits for the statement of PREPARE p AS, or the query of CREATE TABLE t AS.
func untilAs(p *parser, t token) state {
	p.child = skip
	if t.key == kwAs {
		return statement
	}
	return untilAs
}

// untilFor waits for the query of DECLARE.
func untilFor(p *parser, t token) state {
	if t.key == kwFor {
		return statement
	}
	return untilFor
}

// copyWhat expects the table or the query of COPY.
func copyWhat(p *parser, t token) state {
	switch {
	case t.key == kwOption: // BINARY
		return copyWhat
	case t.symbol == '(':
		p.child = statement
	case startsName(t):
		return p.startName(t, object, skip)
	}
	return skip
}

// objectName expects the one name of a target that is no table.
func objectName(p *parser, t token) state {
	if startsName(t) {
		return p.startName(t, object, tail)
	}
	return tail
}

// listNext expects a table in the list of TRUNCATE, LOCK, VACUUM, …, before which words and parentheses with options may
// come.
func listNext(p *parser, t token) state {
	switch {
	case t.key == kwTable, t.key == kwOnly, t.key == kwOption, t.key == kwAnalyze:
		return listNext
	case t.symbol == '(':
		p.child = skip
		if p.prev.key == kwOnly {
			p.child = listNext
		}
		return listNext
	case startsName(t):
		return p.startName(t, object, list)
	}
	return list(p, t)
}

// list reads what follows a table in such a list.
func list(p *parser, t token) state {
	p.child = skip
	if t.symbol == ',' {
		return listNext
	}
	return list
}

// setting expects the name of a setting after SET, SHOW or RESET, or a word in its place: ROLE, TRANSACTION.
func setting(p *parser, t token) state {
	switch {
	case t.key == kwLocal, t.key == kwSession:
		return setting
	case t.key == kwTime:
		return p.extend(t, timeZone)
	case startsName(t) && p.verb == kwSet:
		return p.startName(t, object, setTo)
	case startsName(t):
		return p.startName(t, object, skip)
	}
	return skip
}

// setTo expects = or TO, which is between a setting and its value.
func setTo(p *parser, t token) state {
	if t.symbol == '=' || t.key == kwTo {
		return setValue
	}
	return skip(p, t)
}

// setValue reads the value of a setting, which may have no quotes: SET app.tenant = acme. It is hidden as a literal is,
// unless it says nothing.
func setValue(p *parser, t token) state {
	p.child = setValue
	switch {
	case t.kind == quoted:
		p.isValue = true
	case t.kind == word:
		p.isValue = !saysNothing(p.text(t))
	}
	return setValue
}

// saysNothing reports whether a word is one that many settings may have as their value.
func saysNothing(word string) bool {
	switch strings.ToLower(word) {
	case "on", "off", "true", "false", "yes", "no", "none", "default", "local":
		return true
	}
	return false
}

// timeZone expects the second word of SET TIME ZONE.
func timeZone(p *parser, t token) state {
	switch {
	case t.key != kwZone:
		return skip(p, t)
	case p.verb == kwSet:
		return p.extend(t, setValue)
	}
	return p.extend(t, skip)
}
