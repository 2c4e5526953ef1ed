package settings

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// FuzzKeys holds the scanner against pgx: what pgx takes from a DSN the scanner must have seen, with the same value, and
// a DSN with sslmode added must still mean the same.
func FuzzKeys(f *testing.F) {
	for _, dsn := range []string{
		"", " ", "host=h", "host = h  a='b c' d=e\\ f g='\\''", `a=\`, `a='\`, "a=b\\", "a= b=c", "a='' b=", "x", "=x",
		"postgres://", "postgresql://u:p@h:1,[::1]:2/d?a=b&c=d", "postgres://u:p?w@h/d#f?a=%41", "postgres://h?a=b&",
		"postgres://[a?b]/?c=d", "postgres://[a?b", "postgres://h/d?ssl=true&sslmode=disable", "postgres://h/d?ssl=true", "postgres://?ssl=true&sslmode=",
		"postgres://h/d?ssl=true&ssl=x", "postgres://h/?%64bname=x&pass%77ord=y", "postgres://h/d?a=b=c", "postgres://h/d?&",
		"postgres://h/d?a=%zz", "postgres://h?a=b&c=d?", "postgres://h/d?a= b ", "postgres://a@b@c/d?e=f", "postgres://h,?a=b", "postgres://h:?a=b",
		"connect_timeout=2 connect_timeout='3'", "sslmode='' host=h", "sslmode=''a=b", "postgres://h/d?sslmode=", "a\v=\fb", "dbname=x database=y",
	} {
		f.Add(dsn)
	}
	f.Fuzz(func(t *testing.T, dsn string) {
		s := scan(dsn)
		conn, err := pgx.ParseConfig(dsn)
		if err != nil {
			return
		}
		for key, value := range conn.RuntimeParams {
			if got, ok := s.get(key); !ok || got != value {
				t.Errorf("pgx has %q=%q, the scanner %q, %v", key, value, got, ok)
			}
		}
		if password, _ := s.get("password"); password != conn.Password {
			t.Errorf("pgx has the password %q, the scanner %q", conn.Password, password)
		}
		if _, ok := s.get("service"); ok {
			return
		}
		if mode, ok := s.get("sslmode"); ok && mode != "" {
			return
		}
		text := s.add("sslmode", "require")
		if _, ok := s.get("sslmode"); ok {
			text = s.replace("sslmode", "require")
		}
		again, err := pgx.ParseConfig(text)
		if err != nil {
			t.Fatalf("%q is refused", text)
		}
		if mode, _ := (&loader{dsn: dsnParts{scanned: scan(text)}}).dsn.get("sslmode"); mode != "require" {
			t.Errorf("%q requires no TLS", text)
		}
		if fmt.Sprint(again.RuntimeParams, again.Host, again.Port, again.User, again.Password, again.Database) !=
			fmt.Sprint(conn.RuntimeParams, conn.Host, conn.Port, conn.User, conn.Password, conn.Database) {
			t.Errorf("%q means something else", text)
		}
	})
}

const secret = "Xs3cr3tX"

// leakless fails if the secret shows in anything that Load says.
func leakless(t *testing.T, dsn string, environ []string, code Values) {
	c, err := Load(dsn, environ, code, "")
	if (c == nil) == (err == nil) {
		t.Fatalf("neither or both of a config and an error")
	}
	said := fmt.Sprintf("%v %+v %#v", err, err, err)
	if c != nil {
		said = strings.Join(c.Warnings, " ")
	} else {
		for line := range strings.Lines(err.Error()) {
			if !strings.HasPrefix(line, "pgprod: ") {
				t.Errorf("%q doesn't begin with pgprod", line)
			}
		}
	}
	if strings.Contains(said, secret) {
		t.Errorf("the password is in %q", said)
	}
}

func FuzzDSN(f *testing.F) {
	for _, around := range [][2]string{
		{"postgres://u:", "@h/d"}, {"postgres://u:", "@h:x/d?pool_size=0"}, {"postgres://u:a/", "@h/d?sslmode=disable"},
		{"postgres://u:a?b&", "@h/d"}, {"postgres://u:%", "@h/d"}, {"postgres://u@h/d?password=", "&sslrootcert=/x"},
		{"host=h password=", " sever_settings=x"}, {"host=h password='", ""}, {"host=h password=a ", ""},
		{"host=h password=a ", "=b"}, {"host=h sslrootcert=\\ password=", ""}, {"pool_x=", ""}, {"password_file=", ""},
		{"server_settings=", "=1"}, {"jdbc:postgresql://u:", "@h/d?x=y"}, {"profile=", " pool_timeout=\\"},
		{"postgres://u:", "@h/d?target_session_attrs=x"}, {"host=db.example.com sslmode=disable password=", ""},
		{"connect_timeout=", ""}, {"postgres://u:p@", "@h/d"}, {"postgres://u:1/", "@h/d"}, {"default_query_exec_mode=", ""}, {"service=", ""}, {"env_prefix=a", "-"},
	} {
		f.Add(around[0], around[1])
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		if strings.ContainsAny(before, "_") && endsInName(before) {
			return // the secret would be the end of a key, which is named, and no password
		}
		leakless(t, before+secret+after, nil, Values{})
		leakless(t, "", []string{"DB_DSN=" + before + secret + after}, Values{})
	})
}

// endsInName tells whether what follows continues a word.
func endsInName(s string) bool {
	return s != "" && strings.ContainsRune(wordChars+".$", rune(s[len(s)-1]))
}

func FuzzEnvironment(f *testing.F) {
	for _, r := range table {
		f.Add(r.env(), "", "")
	}
	f.Add("PASSWORD", "", "")
	f.Add("PASSWORD", "\n", "\x00")
	f.Add("DSN", "postgres://u:", "@h:x/d")
	f.Add("DSN", "host=h password=", " pool_size=0")
	f.Add("SERVER_SETTINGS", "jit=", ",x")
	f.Add("SERVER_SETTINGS", "jit=off,", "=1")
	f.Add("POOL_PRE_PING", "al", "ways")
	f.Fuzz(func(t *testing.T, name, before, after string) {
		for _, line := range []string{"DB_" + name + "=" + before + secret + after, "PG" + name + "=" + before + secret + after} {
			leakless(t, remote, []string{line}, Values{})
			leakless(t, remote+"?sslmode=prefer", []string{line, "DB_PASSWORD_FILE=/nowhere"}, Values{})
			leakless(t, "", []string{line, "DB_POOL_SIZE=0"}, Values{})
		}
	})
}
