package settings

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// modeOf tells what pgx will do: nothing else in its configuration keeps the mode.
func modeOf(c *Config) string {
	var tries []*tls.Config
	tries = append(tries, c.Conn.TLSConfig)
	for _, f := range c.Conn.Fallbacks {
		tries = append(tries, f.TLSConfig)
	}
	switch {
	case len(tries) == 1 && tries[0] == nil:
		return "disable"
	case len(tries) == 1 && tries[0].InsecureSkipVerify:
		return "require"
	case len(tries) == 1:
		return "verify-full"
	case tries[0] != nil && tries[1] == nil:
		return "prefer"
	case tries[0] == nil:
		return "allow"
	default:
		return "require" // of several hosts
	}
}

func TestInProductionTLSIsRequiredOfAHostThatIsNotLocal(t *testing.T) {
	for _, c := range []struct {
		name, dsn string
		environ   []string
		mode      string
		warns     bool
	}{
		{"URL", "postgres://u:p@db.example.com/d", nil, "require", false},
		{"URL without a path", "postgres://db.example.com", nil, "require", false},
		{"URL with an empty query", "postgres://db.example.com/d?", nil, "require", false},
		{"URL with a query", "postgres://db.example.com/d?a=b", nil, "require", false},
		{"URL with an open query", "postgres://db.example.com/d?a=b&", nil, "require", false},
		{"URL with a ? in the password", "postgres://u:p?w@db.example.com/d", nil, "require", false},
		{"URL with a # in the database", "postgres://db.example.com/d#x", nil, "require", false},
		{"URL with a # in a value", "postgres://db.example.com/d?a=b#x", nil, "require", false},
		{"URL with an empty mode", "postgres://db.example.com/d?sslmode=", nil, "require", false},
		{"keywords", "host=db.example.com", nil, "require", false},
		{"keywords with a backslash at the end", `host=db.example.com application_name=a\`, nil, "require", false},
		{"keywords with an empty mode", "sslmode='' host=db.example.com", nil, "require", false},
		{"keywords with an empty mode against PGSSLMODE", "sslmode='' host=db.example.com", []string{"PGSSLMODE=disable"}, "require", false},
		{"PGHOST", "", []string{"PGHOST=db.example.com"}, "require", false},
		{"address", "host=192.0.2.1", nil, "require", false},
		{"several hosts", "host=a.example.com,b.example.com", nil, "require", false},
		{"direct TLS", "host=db.example.com sslnegotiation=direct", nil, "require", false},

		{"verify-full by name", "host=db.example.com sslmode=verify-full", nil, "verify-full", false},
		{"require by name", "host=db.example.com sslmode=require", nil, "require", false},
		{"ssl=true", "postgres://db.example.com/d?ssl=true", nil, "require", false},
		{"system certificates", "host=db.example.com sslrootcert=system", nil, "verify-full", false},
		{"require by PGSSLMODE", "host=db.example.com", []string{"PGSSLMODE=require"}, "require", false},
		{"disable by name", "host=db.example.com sslmode=disable", nil, "disable", true},
		{"allow by name", "postgres://db.example.com/d?sslmode=allow", nil, "allow", true},
		{"prefer by name", "postgres://db.example.com/d?sslmode=prefer", nil, "prefer", true},
		{"prefer by PGSSLMODE", "host=db.example.com", []string{"PGSSLMODE=prefer"}, "prefer", true},

		{"development", "host=db.example.com environment=development", nil, "prefer", false},
		{"development by name", "host=db.example.com environment=development sslmode=disable", nil, "disable", false},
		{"socket", "host=/run/postgresql", nil, "disable", false},
		{"localhost", "host=localhost", nil, "prefer", false},
		{"loopback", "host=127.1.2.3", nil, "prefer", false},
		{"loopback of IPv6", "postgres://[::1]/d", nil, "prefer", false},
		{"localhost by name", "host=localhost sslmode=disable", nil, "disable", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := load(t, c.dsn, c.environ...)
			require.Equal(t, c.mode, modeOf(got))
			require.Len(t, got.Warnings, map[bool]int{true: 1}[c.warns])
		})
	}
}

func TestRequiringTLSChangesNothingElse(t *testing.T) {
	for _, dsn := range []string{
		"postgres://u:p?w@db.example.com/d#x?a=b&options=-c%20a%3Db", `host=db.example.com password='a\'b' a=b\`,
	} {
		with, without := load(t, dsn), load(t, dsn, "DB_ENVIRONMENT=development")
		require.Equal(t, without.Conn.Password, with.Conn.Password)
		require.Equal(t, without.Conn.Database, with.Conn.Database)
		require.Equal(t, without.Conn.RuntimeParams, with.Conn.RuntimeParams)
	}
}

func TestOneHostThatIsNotLocalIsEnough(t *testing.T) {
	c := load(t, "host=localhost,db.example.com")
	require.NotNil(t, c.Conn.TLSConfig)
	require.Len(t, c.Conn.Fallbacks, 1)
	require.NotNil(t, c.Conn.Fallbacks[0].TLSConfig)
}

func TestAServiceFileMayChooseTheModeAndIsWarnedOf(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	require.NoError(t, os.WriteFile(filepath.Join(home, ".pg_service.conf"), []byte(
		"[tls]\nhost=db.example.com\nsslmode=require\n[plain]\nhost=db.example.com\nsslmode=disable\n"+
			"[empty]\nhost=db.example.com\nsslmode=\n[silent]\nhost=db.example.com\n"), 0o600))
	for _, c := range []struct{ dsn, variable, mode, warns string }{
		{"service=tls", "PGSSLMODE=disable", "require", ""},
		{"service=plain", "PGSSLMODE=require", "disable", "service file: sslmode is disable"},
		{"service=plain sslmode=require", "", "require", ""},
		{"", "PGSERVICE=plain", "disable", "service file: sslmode is disable"},
		{"service=empty", "PGSSLMODE=disable", "require", ""},
		{"service=silent", "", "require", ""},
		{"", "PGSERVICE=silent", "require", ""},
		{"postgres:///d?service=silent", "", "require", ""},
		{"service=silent", "PGSSLMODE=disable", "disable", "variable PGSSLMODE: sslmode is disable"},
		{"service=silent sslmode=prefer", "", "prefer", "DSN key sslmode: sslmode is prefer"},
		{"service=silent", "DB_ENVIRONMENT=development", "prefer", ""},
	} {
		t.Run(c.dsn+" "+c.variable, func(t *testing.T) {
			got := load(t, c.dsn, c.variable)
			require.Equal(t, c.mode, modeOf(got))
			require.Len(t, got.Warnings, map[bool]int{true: 1}[c.warns != ""])
			if c.warns != "" {
				require.Contains(t, got.Warnings[0], c.warns)
			}
		})
	}
}

func TestTheWarningNamesKeyAndMode(t *testing.T) {
	c := load(t, "host=db.example.com sslmode=prefer password=s3cret")
	require.Contains(t, c.Warnings[0], "DSN key sslmode: sslmode is prefer")
	require.NotContains(t, c.Warnings[0], "s3cret")
	c = load(t, "", "DATABASE_URL=postgres://db.example.com/?sslmode=disable")
	require.Contains(t, c.Warnings[0], "DSN key sslmode in DATABASE_URL: sslmode is disable")
	c = load(t, remote, "PGSSLMODE=allow")
	require.Contains(t, c.Warnings[0], "variable PGSSLMODE: sslmode is allow")
}
