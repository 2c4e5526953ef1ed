package sqlsummary

import (
	"strings"
	"unicode/utf8"
)

// maxSummary is the longest summary the conventions allow, in bytes.
const maxSummary = 255

// Summary is what telemetry may show of a statement.
type Summary struct {
	// Text is the statement without literals and comments: db.query.text.
	Text string
	// Summary is db.query.summary, at most 255 bytes; empty where the text begins with no known operation.
	Summary string
	// Operation is the statement's one operation, else empty.
	Operation string
	// Collection is the one table or view it names, else empty.
	Collection string
	// Returning says that the last statement has a RETURNING clause, and not only something inside it.
	Returning bool

	first string // the first operation
}

// other stands for the targets where there are too many different summaries.
const other = "_OTHER"

// overflow is the summary with only the first word of its first operation, in capitals, which is one of few. It has an
// operation where s has one, and no collection.
func (s Summary) overflow() Summary {
	verb, _, _ := strings.Cut(strings.ToUpper(s.first), " ")
	s.Collection, s.first = "", verb
	if s.Operation != "" {
		s.Operation = verb
	}
	s.Summary = strings.TrimLeft(verb+" "+other, " ")
	return s
}

// Parse looks at the text of one or more statements.
func Parse(sql string) Summary {
	text := sanitiser{src: sql}
	p := parser{src: sql}
	p.reset()
	for l := (lexer{src: sql}); ; {
		t := l.next()
		if t.kind != space && t.kind != comment {
			p.token(t)
			if p.isValue {
				t.kind = literal
			}
		}
		text.token(t)
		if t.kind == end {
			break
		}
	}
	s := p.summary.result()
	s.Text, s.Returning = text.text(), p.returning
	return s
}

// span is a piece of a summary.
type span struct{ from, to int }

// summary is built in place; what doesn't fit is counted only.
type summary struct {
	buf                     [maxSummary]byte
	length                  int
	full                    bool
	operations, collections int
	operation, collection   span // the first ones
}

// add appends a token and says where it is.
func (s *summary) add(text string) span {
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, string(utf8.RuneError))
	}
	from := s.length
	if from > 0 {
		from++
	}
	if s.full || from+len(text) > maxSummary {
		s.full = true
		return span{}
	}
	if from > 0 {
		s.buf[from-1] = ' '
	}
	s.length = from + copy(s.buf[from:], text)
	return span{from, s.length}
}

func (s *summary) addOperation(text string) {
	at := s.add(text)
	if s.operations++; s.operations == 1 {
		s.operation = at
	}
}

// extend adds a word to the operation that was added last.
func (s *summary) extend(text string) {
	at := s.add(text)
	if s.operations == 1 && at.to > 0 {
		s.operation.to = at.to // the operation's words follow one another
	}
}

func (s *summary) addTarget(text string, collection bool) {
	at := s.add(text)
	if !collection {
		return
	}
	if s.collections++; s.collections == 1 {
		s.collection = at
	}
}

func (s *summary) result() Summary {
	text := string(s.buf[:s.length])
	r := Summary{Summary: text, first: text[s.operation.from:s.operation.to]}
	if s.operations == 1 {
		r.Operation = r.first
	}
	if s.collections == 1 {
		r.Collection = text[s.collection.from:s.collection.to]
	}
	return r
}
