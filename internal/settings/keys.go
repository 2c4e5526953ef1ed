package settings

import "strings"

// pair is one key=value as it stands in a DSN: text[start:end] is the value with its quotes or escapes.
type pair struct {
	key, value string
	start, end int
	alias      bool // written under another name, whose values differ
}

// scanned is a DSN taken apart. pgx reads it again and is the authority; this only tells what was given, and where.
type scanned struct {
	text  string
	pairs []pair
	url   bool
	query int  // where a URL's query begins, behind the ?; 0: it has none
	stray bool // a URL has an @ among its hosts or in its path, which is likely in the middle of a password
}

const spaces = " \t\n\r\v\f"

// scan finds the keys of a DSN, in the order in which later ones win. It follows pgx's two parsers, and where they
// refuse the DSN it returns what it had found.
func scan(dsn string) scanned {
	s := scanned{text: dsn}
	for _, prefix := range []string{"postgresql://", "postgres://"} {
		if strings.HasPrefix(dsn, prefix) {
			s.url = true
			s.scanURL(len(prefix))
			return s
		}
	}
	s.scanKeywords()
	return s
}

// get returns the value that counts for a key, the last one.
func (s *scanned) get(key string) (string, bool) {
	for i := len(s.pairs) - 1; i >= 0; i-- {
		if s.pairs[i].key == key {
			return s.pairs[i].value, true
		}
	}
	return "", false
}

// rewrite returns the DSN with every value of a key, as it is written, replaced by what with makes of it.
func (s *scanned) rewrite(key string, with func(written string) string) string {
	var b strings.Builder
	done := 0
	for _, p := range s.pairs {
		if p.key == key && !p.alias {
			b.WriteString(s.text[done:p.start])
			b.WriteString(with(s.text[p.start:p.end]))
			done = p.end
		}
	}
	b.WriteString(s.text[done:])
	return b.String()
}

// replace returns the DSN with every value of a key replaced by a word that needs no escapes.
func (s *scanned) replace(key, word string) string {
	if !s.url {
		word = "'" + word + "'" // the next key may follow a closing quote at once
	}
	return s.rewrite(key, func(string) string { return word })
}

// forPgx returns the DSN with what we allow and pgx refuses written otherwise: in a URL the second = of
// server_settings=jit=off, and a connect_timeout that is a duration. The caller has read that; one is always given, so
// that pgx doesn't look at PGCONNECT_TIMEOUT, which may be a duration as well.
func (s *scanned) forPgx() string {
	text := s.replace("connect_timeout", "1")
	if _, given := s.get("connect_timeout"); !given {
		text = s.add("connect_timeout", "1")
	}
	timed := scan(text)
	if !timed.url {
		return timed.text
	}
	return timed.rewrite("server_settings", func(written string) string {
		return strings.ReplaceAll(written, "=", "%3D")
	})
}

// add returns the DSN with one more key. In front, among keywords: a value at the end may swallow what follows it.
func (s *scanned) add(key, word string) string {
	if !s.url {
		return key + "=" + word + " " + s.text
	}
	switch {
	case s.query == 0:
		return s.text + "?" + key + "=" + word
	case s.query == len(s.text) || strings.HasSuffix(s.text, "&"):
		return s.text + key + "=" + word
	default:
		return s.text + "&" + key + "=" + word
	}
}

func (s *scanned) push(key, value string, start, end int) {
	if key == "dbname" {
		key = "database" // as pgx calls it
	}
	s.pairs = append(s.pairs, pair{key: key, value: value, start: start, end: end})
}

// scanKeywords reads key = value pairs: a value is one word or stands in single quotes, a backslash takes what follows
// it literally.
func (s *scanned) scanKeywords() {
	at := 0
	for {
		at += leading(s.text[at:], spaces)
		eq := strings.IndexByte(s.text[at:], '=')
		if eq < 0 {
			return
		}
		key := strings.Trim(s.text[at:at+eq], spaces)
		at += eq + 1
		at += leading(s.text[at:], spaces)
		value, end := keywordValue(s.text[at:])
		s.push(key, value, at, at+end)
		at += end
	}
}

// keywordValue reads the value at the beginning of text and returns it with its length as written.
func keywordValue(text string) (string, int) {
	var b strings.Builder
	i, quoted := 0, strings.HasPrefix(text, "'")
	if quoted {
		i++
	}
	for ; i < len(text); i++ {
		c := text[i]
		switch {
		case quoted && c == '\'':
			return b.String(), i + 1
		case !quoted && strings.IndexByte(spaces, c) >= 0:
			return b.String(), i
		case c == '\\':
			i++
			if i == len(text) {
				return b.String(), i
			}
			c = text[i]
		}
		b.WriteByte(c)
	}
	return b.String(), i
}

// scanURL reads user:password@host:port,…/database?key=value&…, of which only what tells more than pgx does is kept:
// the password, that there are hosts and a port, and the query. As in libpq the first @, if no / is before it, ends the
// user's part: what follows it is taken for hosts, even if it is the rest of a password.
func (s *scanned) scanURL(at int) {
	if i := strings.IndexAny(s.text[at:], "@/"); i >= 0 && s.text[at+i] == '@' {
		if colon := strings.IndexByte(s.text[at:at+i], ':'); colon >= 0 && colon+1 < i {
			s.push("password", decode(s.text[at+colon+1:at+i]), at+colon+1, at+i)
		}
		at += i + 1
	}
	hosts := at
	at = s.skipHosts(at)
	if at > hosts {
		s.push("host", "", at, at)
	}
	if strings.ContainsAny(s.text[hosts:at], ":,") {
		s.push("port", "", at, at)
	}
	path := at + until(s.text[at:], "?")
	s.stray = strings.Contains(s.text[hosts:path], "@")
	if i := strings.IndexByte(s.text[at:], '?'); i >= 0 {
		s.query = at + i + 1
		s.scanQuery(s.query)
	}
}

// skipHosts returns where host:port,[address]:port,… ends. A ? inside brackets doesn't begin the query.
func (s *scanned) skipHosts(at int) int {
	for {
		if strings.HasPrefix(s.text[at:], "[") {
			end := strings.IndexByte(s.text[at:], ']')
			if end < 0 {
				return len(s.text)
			}
			at += end + 1
		}
		at += until(s.text[at:], "/?,") // a port as well
		if !strings.HasPrefix(s.text[at:], ",") {
			return at
		}
		at++
	}
}

func (s *scanned) scanQuery(at int) {
	ssl := -1 // the pair of a last ssl=true, which is another name for sslmode=require
	for at < len(s.text) {
		end := at + until(s.text[at:], "&")
		raw, _, found := strings.Cut(s.text[at:end], "=")
		if found {
			key, start := decode(raw), at+len(raw)+1
			s.push(key, decode(s.text[start:end]), start, end)
			if key == "ssl" {
				ssl = len(s.pairs) - 1
			}
		}
		at = end + 1
	}
	if ssl >= 0 && s.pairs[ssl].value == "true" {
		p := &s.pairs[ssl]
		p.key, p.value, p.alias = "sslmode", "require", true
	}
}

// decode undoes percent-encoding; pgx refuses what it leaves alone.
func decode(raw string) string {
	raw = strings.Trim(raw, " ")
	var b strings.Builder
	for i := 0; i < len(raw); i++ {
		if raw[i] == '%' && i+2 < len(raw) {
			hi, lo := hexDigit(raw[i+1]), hexDigit(raw[i+2])
			if hi >= 0 && lo >= 0 {
				b.WriteByte(byte(hi<<4 | lo))
				i += 2
				continue
			}
		}
		b.WriteByte(raw[i])
	}
	return b.String()
}

func hexDigit(c byte) int {
	i := strings.IndexByte("0123456789abcdefABCDEF", c)
	if i >= 16 {
		return i - 6
	}
	return i
}

func until(text, set string) int {
	if i := strings.IndexAny(text, set); i >= 0 {
		return i
	}
	return len(text)
}

func leading(text, set string) int { return len(text) - len(strings.TrimLeft(text, set)) }
