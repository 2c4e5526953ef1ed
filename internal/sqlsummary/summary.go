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
	// Returning says that the last statement itself has a RETURNING clause, and not only a CTE in it.
	Returning bool

	first string // the first operation
}

// other stands for the targets in a summary that was shortened because there are too many different ones.
const other = "_OTHER"

// shortened is s with only the first word of its first operation, in capitals, in place of the summary. There are few
// different ones.
func (s Summary) shortened() Summary {
	verb, _, _ := strings.Cut(strings.ToUpper(s.first), " ")
	s.first = verb
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

// A summary is one that is being made. Once it is full, nothing more is added.
type summary struct {
	buf        [maxSummary]byte
	length     int  // of buf, as far as it is written
	full       bool // something didn't fit
	operations int  // in the text
	first      int  // the length of the first operation
}

// add appends a token, or reports that it doesn't fit.
func (s *summary) add(text string) bool {
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, string(utf8.RuneError))
	}
	from := s.length
	if from > 0 {
		from++
	}
	if s.full || from+len(text) > maxSummary {
		s.full = true
		return false
	}
	if from > 0 {
		s.buf[from-1] = ' '
	}
	s.length = from + copy(s.buf[from:], text)
	return true
}

// addOperation appends the first word of an operation. The first one is the first of all tokens, for a target never comes
// before it.
func (s *summary) addOperation(text string) {
	s.operations++
	s.extend(text)
}

// extend appends a further word of the operation that was added last, directly after it.
func (s *summary) extend(text string) {
	if s.add(text) && s.operations == 1 {
		s.first = s.length
	}
}

// result returns the Summary, without what others find out: Text and Returning.
func (s *summary) result() Summary {
	text := string(s.buf[:s.length])
	return Summary{Summary: text, first: text[:s.first]}
}
