package settings

import "strings"

// A pair is one key=value of a DSN.
type pair struct {
	key, value string // as pgx understands them: without quotes and escapes
	start, end int    // where the value is in the DSN, quotes and escapes included
	alias      bool   // the DSN has another key that means the same with other values (ssl=true is sslmode=require)
}

// scanned is a DSN with the places of its keys. What the DSN means is for pgx to decide, which parses it as well; this only
// says which keys were given, and where.
type scanned struct {
	text  string
	pairs []pair
	url   bool // it is a URL, else key=value pairs
	query int  // where the query of a URL begins, after the ?; 0: it has none
	stray bool // a URL with an @ among its hosts or in its path, where it is probably part of a password
}

// spaces are what separates key=value pairs.
const spaces = " \t\n\r\v\f"

// scan finds the keys of a DSN, in their order; of several equal ones the last counts. It reads as pgx's two parsers do. If
// they refuse the DSN it returns what it found up to there.
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

// get returns the value that counts for a key, which is the last one, and whether there is one.
func (s *scanned) get(key string) (string, bool) {
	for i := len(s.pairs) - 1; i >= 0; i-- {
		if s.pairs[i].key == key {
			return s.pairs[i].value, true
		}
	}
	return "", false
}

// rewrite returns the DSN with every value of a key replaced by with's result for it. with gets the value as it is written.
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

// replace returns the DSN with every value of a key replaced by word, which must need no escapes.
func (s *scanned) replace(key, word string) string {
	if !s.url {
		word = "'" + word + "'" // the next key may follow a closing quote at once
	}
	return s.rewrite(key, func(string) string { return word })
}

// forPgx returns the DSN with what pgx would refuse, but we allow, written in another way: the second = in a URL's
// server_settings=jit=off, and a connect_timeout that is a duration, whose value the caller has read already. The result
// always has a connect_timeout, so that pgx doesn't read PGCONNECT_TIMEOUT, which may be a duration as well.
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

// add returns the DSN with one more key. Of key=value pairs it becomes the first: at the end, a quote that isn't closed
// would make it part of the value before.
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

// push adds a pair that was found.
func (s *scanned) push(key, value string, start, end int) {
	if key == "dbname" {
		key = "database" // pgx's name for it
	}
	s.pairs = append(s.pairs, pair{key: key, value: value, start: start, end: end})
}

// scanKeywords reads key = value pairs. A value is one word, or in single quotes; a backslash takes away the meaning of the
// character after it.
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

// keywordValue reads the value at the beginning of text. It returns the value, and how many bytes of text it takes.
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

// scanURL reads user:password@host:port,…/database?key=value&… from at, which is behind the scheme. It keeps what pgx
// doesn't tell: the password as it was given, whether there are hosts and a port, and the keys of the query.
//
// As in libpq the first @ ends the user's part, if no / is before it. What follows is taken for hosts, even if it is the
// rest of a password with an @ in it.
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

// skipHosts returns where the list of hosts that begins at at ends: host:port,[address]:port,… A ? in brackets is part of
// it.
func (s *scanned) skipHosts(at int) int {
	for {
		if strings.HasPrefix(s.text[at:], "[") {
			end := strings.IndexByte(s.text[at:], ']')
			if end < 0 {
				return len(s.text)
			}
			at += end + 1
		}
		at += until(s.text[at:], "/?,") // past the host or, behind brackets, the port
		if !strings.HasPrefix(s.text[at:], ",") {
			return at
		}
		at++
	}
}

// scanQuery reads key=value&… from at to the end.
func (s *scanned) scanQuery(at int) {
	ssl := -1 // the last pair with the key ssl; ssl=true is another name for sslmode=require
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

// decode undoes percent-encoding. It leaves wrong encodings alone, which pgx refuses.
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

// hexDigit returns the value of a hexadecimal digit, negative if it is none.
func hexDigit(c byte) int {
	i := strings.IndexByte("0123456789abcdefABCDEF", c)
	if i >= 16 {
		return i - 6
	}
	return i
}

// until is the number of bytes before the first one of set, or of the whole text.
func until(text, set string) int {
	if i := strings.IndexAny(text, set); i >= 0 {
		return i
	}
	return len(text)
}

// leading is the number of bytes of set with which text begins.
func leading(text, set string) int { return len(text) - len(strings.TrimLeft(text, set)) }
