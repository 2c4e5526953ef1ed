package sqlsummary

import "strings"

// use is what a name is for.
type use uint8

const (
	// fromItem is a table or view, unless it is a function or a CTE.
	fromItem use = iota
	// collection is a table or view.
	collection
	// object is another target.
	object
	// cte is the name of a CTE.
	cte
)

// name is the name being read: parts with dots between.
type name struct {
	use        use
	then       state  // takes the first token after the name
	start, end int    // where it is in the text
	joined     string // the name, where something else than dots separates its parts
	parts      int
	dot        bool // a part must follow
	first      keyword
}

// startsName says whether the token can begin the name of a table.
func startsName(t token) bool { return t.kind == quoted || t.kind == word && !t.reserved }

// startName reads a name that begins with the token, and goes on with then.
func (p *parser) startName(t token, u use, then state) state {
	p.name = name{use: u, then: then, start: t.start, end: t.end, parts: 1, first: t.key}
	return inName
}

// inName reads the rest of a name.
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

// addPart adds the part after a dot. Of a name that doesn't fit in a summary anyway it keeps no more.
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

// endName puts the name to its use; t is the token after it.
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
			p.summary.addTarget(text, true)
		}
	case collection:
		p.summary.addTarget(text, true)
	case object:
		p.summary.addTarget(text, false)
	case cte:
		p.stack[p.depth].cte = text
	}
}

// isCTE says whether a CTE of that name is visible.
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

// addCTE makes the frame's CTE visible.
func (p *parser) addCTE() {
	f := &p.stack[p.depth]
	if f.cte != "" && len(p.ctes) < maxCTEs && !p.isCTE(f.cte) {
		p.ctes = append(p.ctes, visibleCTE{fold(f.cte), p.depth})
	}
	f.cte = ""
}

// fold is the name PostgreSQL sees: plain names in lower case, as far as they are ASCII, quoted ones without quotes.
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
