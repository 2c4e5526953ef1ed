package sqlsummary

const (
	// maxDepth is how many levels of parentheses are read. What is deeper adds nothing to the summary.
	maxDepth = 64
	// maxCTEs is how many CTEs are remembered at a time. Further ones are taken for tables.
	maxCTEs = 64
)

// A state takes a token, and returns the state that takes the next one in the same pair of parentheses. The functions of
// this type are named after what they expect; comments say that they expect, read or wait for it.
type state func(*parser, token) state

// A frame is what is known of one pair of parentheses that is open. The outermost frame is that of the statement.
type frame struct {
	state     state  // takes the next token
	cte       string // the name of a CTE in this frame's WITH whose body isn't complete; "": none
	recursive bool   // this frame's WITH is WITH RECURSIVE
}

// A visibleCTE is a CTE that names in FROM may mean.
type visibleCTE struct {
	name  string // folded
	depth int    // that of its WITH; it is visible there and deeper
}

// A parser is the state machine that follows the tokens of a text and makes the summary.
type parser struct {
	src       string
	summary   summary
	stack     [maxDepth]frame // the open parentheses, up to depth
	depth     int
	tooDeep   int   // open parentheses beyond maxDepth
	child     state // the first state of the parenthesis that this token opens, if it does; the state may set it
	isValue   bool  // the token is a value though it looks like a name; the state sets it
	prev      token // the token before
	name      name  // the name that is being read
	ctes      []visibleCTE
	ahead     int     // how many bytes addAhead has read, in all
	verb      keyword // the first word of the statement, if that is no query
	returning bool    // the statement has a RETURNING outside of parentheses
}

// reset is called before each statement.
func (p *parser) reset() {
	p.stack[0] = frame{state: statement}
	p.ctes = p.ctes[:0]
	p.prev = token{}
}

// take takes the next token that is neither white space nor a comment.
func (p *parser) take(t token) {
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

// skipDeep counts the parentheses beyond maxDepth, of which nothing else is looked at.
func (p *parser) skipDeep(opens, closes bool) {
	switch {
	case opens:
		p.tooDeep++
	case closes:
		p.tooDeep--
	}
}

// push begins a frame for a parenthesis that was opened.
func (p *parser) push() {
	if p.depth == maxDepth-1 {
		p.tooDeep++
		return
	}
	p.depth++
	p.stack[p.depth] = frame{state: p.child}
}

// pop ends the frame of a parenthesis that was closed, and with it the CTEs of its WITH.
func (p *parser) pop() {
	if p.depth == 0 {
		return
	}
	p.depth--
	for n := len(p.ctes); n > 0 && p.ctes[n-1].depth > p.depth; n-- {
		p.ctes = p.ctes[:n-1]
	}
}

// text is the text of a token.
func (p *parser) text(t token) string { return p.src[t.start:t.end] }

// clause is the keyword of a token that may begin a clause; noKey after AS, where the word is a name.
func (p *parser) clause(t token) keyword {
	if p.prev.key == kwAs {
		return noKey
	}
	return t.key
}

// operation adds the token to the summary as the first word of an operation, and goes on with next.
func (p *parser) operation(t token, next state) state {
	p.summary.addOperation(p.text(t))
	return next
}

// extend adds the token to the last operation in the summary, and goes on with next.
func (p *parser) extend(t token, next state) state {
	p.summary.extend(p.text(t))
	return next
}

// skip reads the rest of the frame, parentheses included, and ignores it.
func skip(p *parser, t token) state {
	p.child = skip
	return skip
}
