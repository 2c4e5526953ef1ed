package sqlsummary

import "strings"

// A use says what a name is.
type use uint8

const (
	// fromItem: a table or view, unless a parenthesis follows, which makes it a function, or a CTE has the name.
	fromItem use = iota
	// object: a target, whatever follows.
	object
	// cte: the name of a CTE, in its WITH.
	cte
)

// A name is the one that is being read: parts with dots between them.
type name struct {
	use        use
	then       state   // takes the first token after the name
	start, end int     // where the name is in the text
	joined     string  // the name, if its parts have more than a dot between them: a space or a comment; else ""
	parts      int     // how many parts were read
	dot        bool    // the last token was a dot, so another part must follow
	first      keyword // the keyword of the first part
}

// startsName reports whether a token can be the first part of the name of a table.
func startsName(t token) bool { return t.kind == quoted || t.kind == word && !t.reserved }

// startName begins to read a name, whose first part is t. The state then takes the first token after the name.
func (p *parser) startName(t token, u use, then state) state {
	p.name = name{use: u, then: then, start: t.start, end: t.end, parts: 1, first: t.key}
	return inName
}

// inName is the state in which the rest of a name is read.
func inName(p *parser, t token) state {
	n := &p.name
	switch {
	case t.symbol == '.' && !n.dot:
		n.dot = true
		return inName
	case n.dot && (t.kind == quoted || t.kind == word):
		p.addPart(t)
		return inName
	}
	p.endName(t)
	return n.then(p, t)
}

// addPart adds the part of a name after a dot. It keeps no more of a name that is too long for a summary already.
func (p *parser) addPart(t token) {
	n := &p.name
	n.dot = false
	n.parts++
	if n.joined == "" && t.start == n.end+1 {
		n.end = t.end
		return
	}
	if n.joined == "" {
		n.joined = p.src[n.start:n.end]
	}
	if len(n.joined) <= maxSummary {
		n.joined += "." + p.text(t)
	}
}

// endName is called at the end of a name, with the token t after it. It adds the name to the summary, or keeps that of a
// CTE.
func (p *parser) endName(t token) {
	n := &p.name
	text := n.joined
	if text == "" {
		text = p.src[n.start:n.end]
	}
	switch n.use {
	case fromItem:
		rowsFrom := n.first == kwRows && n.parts == 1 && t.key == kwFrom
		if t.symbol != '(' && !rowsFrom && !(n.parts == 1 && p.isCTE(text)) {
			p.summary.add(text)
		}
	case object:
		p.summary.add(text)
	case cte:
		p.stack[p.depth].cte = text
	}
}

// isCTE reports whether a name is that of a CTE which is visible here.
func (p *parser) isCTE(text string) bool {
	if len(p.ctes) == 0 {
		return false
	}
	folded := fold(text)
	for _, c := range p.ctes {
		if c.name == folded {
			return true
		}
	}
	return false
}

// addCTE makes the CTE that the current frame has read visible.
func (p *parser) addCTE() {
	f := &p.stack[p.depth]
	if f.cte != "" && len(p.ctes) < maxCTEs && !p.isCTE(f.cte) {
		p.ctes = append(p.ctes, visibleCTE{fold(f.cte), p.depth})
	}
	f.cte = ""
}

// fold is a name as PostgreSQL compares it: without quotes if it has some, else with its ASCII letters in lower case.
func fold(text string) string {
	if len(text) > 1 && text[0] == '"' {
		return strings.ReplaceAll(text[1:len(text)-1], `""`, `"`)
	}
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r | 0x20
		}
		return r
	}, text)
}
