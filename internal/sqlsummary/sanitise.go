package sqlsummary

import (
	"strings"
	"unicode/utf8"
)

// placeholder stands for a literal; it's a literal itself, which makes sanitising idempotent.
const placeholder = "'?'"

// sanitiser copies a text token by token, without its literals and comments. It copies nothing before the first change.
type sanitiser struct {
	src     string
	out     []byte
	from    int  // what is before it in src is in out, or dropped
	changed bool // whether out is in use; else the output so far is src
	// inLiteral says that nothing but white space, comments and UESCAPE came since the last literal, whose placeholder
	// ends at litEnd of the output.
	inLiteral bool
	litEnd    int
	commented bool
}

// token takes the next token.
func (s *sanitiser) token(t token) {
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

// text is the result.
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

// flush brings the output up to the offset in src.
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

// comment drops the comment, but leaves white space in its place, as that separates tokens.
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

// skip drops the bytes of the set that follow.
func (s *sanitiser) skip(set string) {
	for s.from < len(s.src) && strings.IndexByte(set, s.src[s.from]) >= 0 {
		s.from++
	}
}

// literal writes the placeholder, unless the literal continues the one before.
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

// glued says whether the placeholder would touch a letter or &, and so could be read as a string with a prefix.
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
