package sqlsummary

import (
	"strings"
	"unicode/utf8"
)

// placeholder is what a literal is replaced with. It is a literal itself, so that a sanitised text isn't changed any more.
const placeholder = "'?'"

// A sanitiser copies a text, token by token, without its literals and comments. It doesn't copy before the first change.
type sanitiser struct {
	src       string
	out       []byte // the output, if changed
	from      int    // how many bytes of src have been copied to out, or dropped
	changed   bool   // the output differs from src; else it is src as far as it was read
	inLiteral bool   // since the last literal only white space, comments and UESCAPE came, so that another one continues it
	litEnd    int    // where in the output the placeholder of the last literal ends
	commented bool   // a comment was removed
}

// take takes the next token.
func (s *sanitiser) take(t token) {
	switch t.kind {
	case space, end:
	case comment:
		s.comment(t)
	case literal:
		s.literal(t)
	default:
		s.inLiteral = s.inLiteral && t.key == kwUescape
	}
}

// text is the sanitised text, when all tokens have been taken.
func (s *sanitiser) text() string {
	text := s.src
	if s.changed {
		s.flush(len(s.src))
		text = string(s.out)
		if s.commented {
			text = strings.TrimRight(text, " \t\n\r\f\v")
		}
	}
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, string(utf8.RuneError))
	}
	return text
}

// flush copies src up to an offset into the output.
func (s *sanitiser) flush(upTo int) {
	if !s.changed {
		s.changed = true
		s.out = make([]byte, 0, len(s.src)+2*len(placeholder))
	}
	if upTo > s.from {
		s.out = append(s.out, s.src[s.from:upTo]...)
		s.from = upTo
	}
}

// comment drops a comment. If there is no white space beside it, a space takes its place, as a comment separates tokens.
func (s *sanitiser) comment(t token) {
	s.commented = true
	s.flush(t.start)
	s.from = t.end
	n := len(s.out)
	switch {
	case n == 0:
		s.skip(" \t\n\r\f\v")
	case isSpace(s.out[n-1]):
		s.skip(" \t")
	case t.end < len(s.src) && !isSpace(s.src[t.end]):
		s.out = append(s.out, ' ')
	}
}

// skip drops the bytes of set that come next.
func (s *sanitiser) skip(set string) {
	for s.from < len(s.src) && strings.IndexByte(set, s.src[s.from]) >= 0 {
		s.from++
	}
}

// literal writes the placeholder of a literal, unless it continues the literal before.
func (s *sanitiser) literal(t token) {
	if s.inLiteral {
		if !s.changed {
			s.flush(s.litEnd)
		}
		s.out = s.out[:min(s.litEnd, len(s.out))]
		s.from = t.end
		return
	}
	s.inLiteral = true
	glued := s.glued(t)
	if !s.changed && !glued && s.src[t.start:t.end] == placeholder {
		s.litEnd = t.end
		return
	}
	s.flush(t.start)
	if glued {
		s.out = append(s.out, ' ')
	}
	s.out = append(s.out, placeholder...)
	s.from = t.end
	s.litEnd = len(s.out)
}

// glued reports whether the placeholder of a literal would touch a letter, a digit or & before it, so that these could be
// read as the prefix of a string.
func (s *sanitiser) glued(t token) bool {
	var last byte
	switch {
	case t.start > s.from || !s.changed && t.start > 0:
		last = s.src[t.start-1]
	case len(s.out) > 0:
		last = s.out[len(s.out)-1]
	}
	return isNamePart(last) || last == '&'
}
