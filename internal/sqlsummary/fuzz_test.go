package sqlsummary

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzParse gives Parse any text: it must not panic, and what it says must keep to the limits.
func FuzzParse(f *testing.F) {
	for _, g := range golden {
		f.Add(g.sql)
	}
	for _, sql := range []string{"E'\\", "$a$", "1e'", "u&'", "a/**/'b'", "'?'\n'?'", "e'?'", "\xc3'\x80", "$1$$", "a..5", "1..'x'"} {
		f.Add(sql)
	}
	f.Fuzz(func(t *testing.T, sql string) { checkInvariants(t, sql, Parse(sql)) })
}

// checkInvariants checks what is true of every text.
func checkInvariants(t *testing.T, sql string, s Summary) {
	if len(s.Summary) > maxSummary || !utf8.ValidString(s.Summary) || !utf8.ValidString(s.Text) {
		t.Fatalf("%q has the summary %q, the text %q", sql, s.Summary, s.Text)
	}
	if !strings.HasPrefix(s.Summary, s.first) {
		t.Fatalf("%q: %q doesn't begin with the operation %q", sql, s.Summary, s.first)
	}
	again := Parse(s.Text)
	if again.Text != s.Text {
		t.Fatalf("%q becomes %q, then %q", sql, s.Text, again.Text)
	}
	// UESCAPE is lost where it joins two literals, which may be where a statement would begin.
	stable := utf8.ValidString(sql) && !strings.Contains(strings.ToLower(sql), "uescape")
	if stable && again.Summary != s.Summary {
		t.Fatalf("%q has the summary %q, its text %q has %q", sql, s.Summary, s.Text, again.Summary)
	}
	for l := (lexer{src: s.Text}); ; {
		piece := l.next()
		if piece.kind == end {
			return
		}
		if piece.kind == comment || piece.kind == literal && s.Text[piece.start:piece.end] != placeholder {
			t.Fatalf("%q still has %q", s.Text, s.Text[piece.start:piece.end])
		}
	}
}

// FuzzLiteralsAreHidden builds SQL from pieces of which each literal and comment has a secret of its own: SECRET and 7777
// are nowhere else, so neither may be in the text or in the summary.
func FuzzLiteralsAreHidden(f *testing.F) {
	for i := range 64 {
		recipe := make([]byte, 24)
		for j := range recipe {
			recipe[j] = byte(i*37 + j*j*11 + j*i)
		}
		f.Add(recipe)
	}
	f.Fuzz(func(t *testing.T, recipe []byte) {
		sql := compose(recipe)
		s := Parse(sql)
		for _, secret := range []string{"SECRET", "7777"} {
			if strings.Contains(s.Text, secret) || strings.Contains(s.Summary, secret) {
				t.Fatalf("%q became %q, summary %q", sql, s.Text, s.Summary)
			}
		}
		checkInvariants(t, sql, s)
	})
}

// secrets are literals and comments in all syntaxes; each %s is text that means nothing there.
var secrets = []string{
	`'SECRET%s'`, `'%sSECRET'`, `E'SECRET%s\''`, `e'\'SECRET%s'`, `E'%s\\'`, `U&'SECRET%s'`, `u&'\0041SECRET' UESCAPE '!'`,
	`N'SECRET%s'`, `B'17777'`, `x'7777'`, `$$SECRET%s$$`, `$t$SECRET%s$t$`, `$tä_1$SECRET%s$tä_1$`, `$t$ $$ $u$SECRET%s$u$ $t$`,
	`17777`, `7777.7777`, `.7777`, `7777.`, `1e7777`, `1.5E-7777`, `0x7777`, `0b7777`, `1_7777`, `1_0.7777`,
	"'SECRET'\n'SECRET%s'", "E'SECRET' --%s\n '\\'SECRET'", "E'x'\n\t'%s\\' SECRET'",
	"--SECRET%s\n", `/*SECRET%s*/`, `/*/*SECRET%s*/SECRET*/`, `/* ' " $$ SECRET */`, "-- ' /* SECRET\n",
}

// inner is what may stand in a literal; doubled quotes, as it must end none.
var inner = []string{``, `''`, `"`, ` -- `, ` /x `, `FROM t`, `$a$b`, `;`, `(`, `ä`, "\xff", "\x00", `?`, `1`, `''''`}

// plain is what stands around.
var plain = []string{
	`SELECT`, `FROM`, `INSERT INTO`, `VALUES`, `WITH x AS (`, `)`, `(`, `,`, `;`, `::text`, `a1`, `"q"`, `"a'b"`, `"a""$$"`, `s.t`,
	`=`, `-`, `+`, `?`, `@>`, `<@`, `/`, `*`, `$1`, `[`, `]`, `.`, `..`, `:`, `e `, `E `, `u& `, `x `, `a$b$`, `täg`, `$ `, `JOIN`,
	`UPDATE`, `SET`, `CREATE TABLE`, `AS`, `UESCAPE`, `date`, "\n", ``, ``,
}

// compose makes SQL from a recipe. Pieces that would merge into another token are kept apart by a space, as the secrets
// would then be names, and rightly kept.
func compose(recipe []byte) string {
	var b strings.Builder
	for i := 0; i+2 < len(recipe); i += 3 {
		piece := plain[int(recipe[i+1])%len(plain)]
		if recipe[i]%2 == 0 {
			piece = secrets[int(recipe[i+1])%len(secrets)]
			if strings.Contains(piece, "%s") {
				piece = fmt.Sprintf(piece, inner[int(recipe[i+2])%len(inner)])
			}
		}
		if touches(b.String(), piece) {
			b.WriteByte(' ')
		}
		b.WriteString(piece)
	}
	return b.String()
}

// touches says whether the two would make another token.
func touches(before, piece string) bool {
	if before == "" || piece == "" {
		return false
	}
	last, first := before[len(before)-1], piece[0]
	switch {
	case isNamePart(last): // a name, a number, a parameter or a tag goes on
		return isNamePart(first) || first == '\'' || first == '.' || first == '&'
	case last == '\'' || last == '"': // a doubled quote
		return first == last
	case last == '.', last == '$', last == '-', last == '/', last == '*', last == '&':
		return true
	}
	return false
}
