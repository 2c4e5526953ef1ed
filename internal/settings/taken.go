package settings

import (
	"regexp"
	"slices"
	"strings"
)

// A taken is a word that others put into a URL, and that is taken here because it means the same, or nothing, for certain.
// All others are refused, see foreign.
type taken struct {
	word   string   // in small letters
	whose  string   // who writes it
	as     string   // the key that it stands for; "": it is left out
	values []string // the values for which that is so, in small letters; nil: all
	value  string   // the value that stands for them; "": the same
	jdbc   bool     // only in a URL that begins with jdbc:
	why    string   // why that is the same, for the manual
}

var takens = []taken{
	{word: "applicationname", whose: "JDBC", as: "application_name", why: "the same parameter of the server"},
	{word: "currentschema", whose: "JDBC", as: "search_path", why: "the same list of schemas"},
	{word: "schema", whose: "Prisma", as: "search_path", why: "one schema, as it is written"},
	{word: "connecttimeout", whose: "JDBC", as: "connect_timeout", jdbc: true,
		why: "seconds, in a URL that begins with `jdbc:`; others mean milliseconds"},
	{word: "ssl", whose: "JDBC", as: "sslmode", values: []string{"true"}, value: "verify-full", jdbc: true,
		why: "in a URL that begins with `jdbc:` the certificate is checked; elsewhere it is sslmode=require"},
	{word: "ssl", whose: "asyncpg", as: "sslmode",
		values: []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"},
		why:    "libpq's words for sslmode"},
	{word: "sslmode", whose: "node-postgres, Heroku", as: "sslmode", values: []string{"no-verify"}, value: "require",
		why: "encrypted, and the certificate isn't checked"},
	{word: "uselibpqcompat", whose: "node-postgres", values: []string{"true"},
		why: "sslmode means what it does to libpq, as here"},
	{word: "gssencmode", whose: "libpq", values: []string{"disable", "prefer"}, why: "there is no encryption by GSS here"},
	{word: "sslcompression", whose: "libpq", values: []string{"0"}, why: "nothing is compressed here"},
	{word: "keepalives", whose: "libpq", values: []string{"1"}, why: "TCP's keep-alive is on here"},
	{word: "tcpkeepalive", whose: "JDBC", values: []string{"true"}, why: "TCP's keep-alive is on here"},
	{word: "encoding", whose: "Rails", values: utf8, why: "texts are UTF8 here"},
	{word: "charset", whose: "Doctrine", values: utf8, why: "texts are UTF8 here"},
	{word: "adapter", whose: "Rails", values: []string{"postgresql", "postgis"}, why: "it says which kind of database it is"},
}

var utf8 = []string{"utf8", "utf-8", "unicode"}

// takenSchemes match the beginnings of URLs that say the same as postgres://: JDBC's, SQLAlchemy's with the name of a
// driver, and Django's for PostGIS.
var takenSchemes = regexp.MustCompile(`^(?:jdbc:postgresql|postgres(?:ql)?\+[a-z0-9_]+|postgis)://`)

// take returns a DSN in our own words, if it is a URL in which others have written. Where two keys would say different
// things about one, it leaves the foreign one, which is refused then.
func take(dsn string) string {
	beginning := takenSchemes.FindString(dsn)
	if beginning != "" {
		dsn = "postgres://" + dsn[len(beginning):]
	}
	s := scan(dsn)
	if !s.url {
		return dsn
	}
	for i := len(s.pairs) - 1; i >= 0; i-- { // from the end, so that the places of those before stay right
		p := &s.pairs[i]
		if p.start <= s.query || s.query == 0 {
			continue
		}
		switch t := takenFor(p, strings.HasPrefix(beginning, "jdbc:")); {
		case t == nil:
		case p.alias && s.count("sslmode") > 1:
			dsn = p.cut(dsn) // to JDBC sslmode counts for more
		case t.as == "":
			dsn = p.cut(dsn)
		case t.as == p.key, s.count(t.as) == 0:
			dsn = t.write(dsn, p)
		}
	}
	return dsn
}

// count returns how often a key is given.
func (s *scanned) count(key string) (n int) {
	for i := range s.pairs {
		if s.pairs[i].key == key {
			n++
		}
	}
	return n
}

// begin returns where a pair of a URL's query begins.
func (p *pair) begin(dsn string) int { return strings.LastIndexAny(dsn[:p.start-1], "?&") + 1 }

// cut returns a URL without a pair of its query.
func (p *pair) cut(dsn string) string {
	begin, rest := p.begin(dsn), strings.TrimPrefix(dsn[p.end:], "&")
	if rest == "" {
		begin-- // also without the ? or & before it
	}
	return dsn[:begin] + rest
}

// takenFor returns how a pair is taken; nil: it isn't.
func takenFor(p *pair, jdbc bool) *taken {
	word, value := strings.ToLower(p.key), strings.ToLower(p.value)
	if p.alias { // ssl=true, which scan has read as sslmode=require
		word, value = "ssl", "true"
	}
	for i := range takens {
		t := &takens[i]
		if t.word == word && (jdbc || !t.jdbc) && value != "" && (t.values == nil || slices.Contains(t.values, value)) {
			return t
		}
	}
	return nil
}

// write returns a URL with a pair in our own words.
func (t *taken) write(dsn string, p *pair) string {
	start := p.begin(dsn)
	switch {
	case t.value != "":
		return dsn[:start] + t.as + "=" + t.value + dsn[p.end:]
	case t.word == "schema" && !plainName.MatchString(p.value):
		return dsn[:start] + t.as + "=" + escapeQuery(`"`+strings.ReplaceAll(p.value, `"`, `""`)+`"`) + dsn[p.end:]
	}
	return dsn[:start] + t.as + "=" + dsn[p.start:]
}

// plainName is a name that is the same with quotes and without.
var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

// escapeQuery writes a value as it has to be in the query of a URL, to whose reader + is no space.
func escapeQuery(value string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(value) {
		if c := value[i]; strings.IndexByte(wordChars, c) >= 0 {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}

// placeholder matches what providers' pages show in place of a password.
var placeholder = regexp.MustCompile(`(?i)^[\[<{].*(your|password).*[\]>}]$`)

// checkPlaceholder refuses a password that is the words of a provider's page for one.
func (l *loader) checkPlaceholder() {
	if password, _ := l.dsn.get("password"); placeholder.MatchString(password) {
		l.problems.add(l.dsn.name("password"), "is a placeholder: put the password in its place, without the brackets")
	}
}

// WordsMarkdown is the tables of the words of others as Markdown: those that are taken, and those that are refused. Tests
// compare it with the manual.
func WordsMarkdown() (takes, refuses string) {
	var b strings.Builder
	b.WriteString("| word | whose | taken as | because |\n|---|---|---|---|\n")
	for _, t := range takens {
		as := "nothing"
		if t.as != "" {
			as = "`" + strings.TrimSuffix(t.as+"="+t.value, "=") + "`"
		}
		word := t.word
		if t.values != nil {
			word += "=" + strings.Join(t.values, ", ")
		}
		b.WriteString("| `" + word + "` | " + t.whose + " | " + as + " | " + t.why + " |\n")
	}
	takes = b.String()
	b.Reset()
	b.WriteString("| words, in capital letters or small | the error says that it |\n|---|---|\n")
	for _, f := range foreign {
		b.WriteString("| `" + strings.Join(strings.Fields(f.words), "`, `") + "` | " + f.hint + " |\n")
	}
	return takes, b.String()
}
