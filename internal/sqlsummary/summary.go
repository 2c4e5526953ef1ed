package sqlsummary

import (
	"strings"
	"unicode/utf8"
)

// maxSummary is the longest summary in bytes that OpenTelemetry's conventions allow.
const maxSummary = 255

// Summary is what telemetry may show of a statement.
type Summary struct {
	// Text is the statement without literals and comments: db.query.text.
	Text string
	// Summary is db.query.summary, at most 255 bytes; "": the text begins with no known operation.
	Summary string
	// Operation is the operation, if the text has exactly one, else "".
	Operation string
	// Collection is the table or view, if the text has exactly one, else "".
	Collection string
	// Returning says that the last statement itself has a RETURNING clause, and not only a CTE in it.
	Returning bool

	first string // the first operation
}

// other stands for the targets in a summary that was shortened because there are too many different ones.
const other = "_OTHER"

// shortened is s with only the first word of its first operation, in capitals, in place of the summary. There are few
// different ones. It has an operation if s has one, and no collection.
func (s Summary) shortened() Summary {
	verb, _, _ := strings.Cut(strings.ToUpper(s.first), " ")
	s.Collection, s.first = "", verb
	if s.Operation != "" {
		s.Operation = verb
	}
	s.Summary = strings.TrimLeft(verb+" "+other, " ")
	return s
}

// Parse returns the summary of a text with one or more statements. It never fails.
func Parse(sql string) Summary {
	text := sanitiser{src: sql}
	p := parser{src: sql}
	p.reset()
	for l := (lexer{src: sql}); ; {
		t := l.next()
		if t.kind != space && t.kind != comment {
			p.take(t)
			if p.isValue {
				t.kind = literal
			}
		}
		text.take(t)
		if t.kind == end {
			break
		}
	}
	s := p.summary.result()
	s.Text, s.Returning = text.text(), p.returning
	return s
}

// A span is a piece of a summary, from the byte from up to the byte to.
type span struct{ from, to int }

// A summary is one that is being made. Once it is full, further operations and targets are only counted.
type summary struct {
	buf         [maxSummary]byte
	length      int  // of buf, as far as it is written
	full        bool // something didn't fit
	operations  int  // in the text
	collections int  // tables and views in the text
	operation   span // the first operation
	collection  span // the first table or view
}

// add appends a token, and returns where it is; the zero span if it doesn't fit.
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

// addOperation appends the first word of an operation.
func (s *summary) addOperation(text string) {
	at := s.add(text)
	if s.operations++; s.operations == 1 {
		s.operation = at
	}
}

// extend appends a further word of the operation that was added last, directly after it.
func (s *summary) extend(text string) {
	at := s.add(text)
	if s.operations == 1 && at.to > 0 {
		s.operation.to = at.to
	}
}

// addTarget appends the name of a target. collection says that it is a table or view.
func (s *summary) addTarget(text string, collection bool) {
	at := s.add(text)
	if !collection {
		return
	}
	if s.collections++; s.collections == 1 {
		s.collection = at
	}
}

// result returns the Summary, without what others find out: Text and Returning.
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
