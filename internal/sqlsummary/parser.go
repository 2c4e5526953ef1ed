package sqlsummary

const (
	// maxDepth is how deep parentheses are looked into; what is deeper adds nothing to the summary.
	maxDepth = 64
	// maxCTEs is how many CTEs are remembered; a later one passes for a table.
	maxCTEs = 64
)

// state takes a token and returns the state for the next one in the same pair of parentheses.
type state func(*parser, token) state

// frame is the state of one pair of parentheses; the outermost frame is that of the statement.
type frame struct {
	state state
	// cte is the name of a CTE whose body isn't complete; recursive is its WITH's.
	cte       string
	recursive bool
}

// visibleCTE is the folded name of a CTE, visible from its depth on.
type visibleCTE struct {
	name  string
	depth int
}

// parser follows the tokens of a text.
type parser struct {
	src       string
	summary   summary
	stack     [maxDepth]frame
	depth     int
	tooDeep   int   // open parentheses beyond maxDepth
	child     state // how the parenthesis that begins with this token starts; each state may set it
	isValue   bool  // the token is a value, though it looks like a name; a state sets it
	prev      token
	name      name
	ctes      []visibleCTE
	ahead     int     // bytes that were read ahead
	verb      keyword // what a statement begins with that is no query
	returning bool    // RETURNING came outside of parentheses since the statement began
}

// reset prepares for the next statement.
func (p *parser) reset() {
	p.stack[0] = frame{state: statement}
	p.ctes = p.ctes[:0]
	p.prev = token{}
}

// token takes the next token that is neither white space nor a comment.
func (p *parser) token(t token) {
	p.isValue = false
	opens, closes := t.symbol == '(' || t.symbol == '[', t.symbol == ')' || t.symbol == ']'
	if p.tooDeep > 0 {
		p.skipDeep(opens, closes)
		return
	}
	if t.symbol == ';' && p.depth > 0 {
		return
	}
	if p.prev.symbol == '.' {
		t.key, t.reserved = noKey, false
	}
	f := &p.stack[p.depth]
	p.child = operand
	f.state = f.state(p, t)
	if t.key == kwReturning && p.clause(t) == kwReturning && p.depth == 0 {
		p.returning = true
	}
	p.prev = t
	switch {
	case opens:
		p.push()
	case closes:
		p.pop()
	case t.symbol == ';':
		p.reset()
	}
}

func (p *parser) skipDeep(opens, closes bool) {
	switch {
	case opens:
		p.tooDeep++
	case closes:
		p.tooDeep--
	}
}

func (p *parser) push() {
	if p.depth == maxDepth-1 {
		p.tooDeep++
		return
	}
	p.depth++
	p.stack[p.depth] = frame{state: p.child}
}

func (p *parser) pop() {
	if p.depth == 0 {
		return
	}
	p.depth--
	for n := len(p.ctes); n > 0 && p.ctes[n-1].depth > p.depth; n-- {
		p.ctes = p.ctes[:n-1]
	}
}

func (p *parser) text(t token) string { return p.src[t.start:t.end] }

// clause is the token's keyword, but after AS it's a name.
func (p *parser) clause(t token) keyword {
	if p.prev.key == kwAs {
		return noKey
	}
	return t.key
}

// operation adds the token to the summary and goes on with next.
func (p *parser) operation(t token, next state) state {
	p.summary.addOperation(p.text(t))
	return next
}

// extend adds the token to the operation and goes on with next.
func (p *parser) extend(t token, next state) state {
	p.summary.extend(p.text(t))
	return next
}

// skip ignores the rest of the frame, and what is in parentheses there.
func skip(p *parser, t token) state {
	p.child = skip
	return skip
}
