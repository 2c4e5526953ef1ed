package instruments

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"

	"github.com/pgprod/pgprod/internal/hosts"
	"github.com/pgprod/pgprod/internal/wire"
)

func TestADescriptionHasNoValues(t *testing.T) {
	for _, c := range []struct{ code, message, sql, want string }{
		{"22P02", `invalid input syntax for type integer: "s3cret"`, "", `invalid input syntax for type integer: "…"`},
		{"22P02", `invalid input syntax for type timestamp with time zone: "a"" b"`, "", `invalid input syntax for type timestamp with time zone: "…"`},
		{"22P02", `invalid input value for enum s3cret: "s3cret"`, "", `invalid input value for enum …: "…"`},
		{"22P02", `invalid input value for enum mood: "s3cret"`, "select $1::mood", `invalid input value for enum mood: "…"`},
		{"22003", `value "s3cr"et" is out of range for type integer`, "", `value "…" is out of range for type integer`},
		{"22P02", "ungültige Eingabesyntax für Typ integer: »s3cret«", "", "an error in the data" + notShown},
		{"40P01", "Verklemmung (Deadlock) entdeckt", "", "a transaction that was rolled back" + notShown},
		{"", "s3cret", "", "an error" + notShown},
		{"7", "s3cret", "", "an error" + notShown},
		{"42P01", `relation "a" does not exist`, "select * from a", `relation "a" does not exist`},
		{"42P01", `relation "app.a" does not exist`, `select * from "app".A`, `relation "app.a" does not exist`},
		{"42P01", `relation "s3cret" does not exist`, "", `relation "…" does not exist`},
		{"42P01", `relation "s3cret" does not exist`, "select nextval('s3cret')", `relation "…" does not exist`},
		{"42P01", `relation "s3cret" does not exist`, "select $$s3cret$$::regclass", `relation "…" does not exist`},
		{"42P01", `relation "a" of "s3cret" does not exist`, "select * from a", `relation "…" does not exist`},
		{"42703", `column u.nme does not exist`, "select u.nme from users u", `column u.nme does not exist`},
		{"42703", `column "a" of relation "s3cret" does not exist`, "select a", `column "a" of relation "…" does not exist`},
		{"42883", "operator does not exist: text + users", "select a + b from users", "operator does not exist: text + users"},
		{"42883", "operator does not exist: text + s3cret", "select a + b", "operator does not exist: …"},
		{"42883", "function f(integer, unknown) does not exist", "select f(1, $1)", "function f(integer, unknown) does not exist"},
		{"42P02", "there is no parameter $1", "select $1", "there is no parameter $1"},
		{"42704", "large object 4711 does not exist", "select lo_get(4711)", "large object … does not exist"},
		{"42601", `syntax error at or near "selct"`, "selct 1", `syntax error at or near "selct"`},
		{"42601", `syntax error at or near ")"`, "select (1))", `syntax error at or near ")"`},
		{"42601", `syntax error at or near "s3cret"`, "select 'it's s3cret'", `syntax error at or near "…"`},
		{"42601", `syntax error at or near "4711"`, "select 1 4711", `syntax error at or near "…"`},
		{"2202E", "index 4711 out of valid range, 0..-1", "", "index … out of valid range, …"},
		{"54000", "requested character too large for encoding: 2071147114", "", "requested character too large for encoding: …"},
		{"25001", "VACUUM cannot run inside a transaction block", "vacuum t", "VACUUM cannot run inside a transaction block"},
		{"25001", "S3CRET cannot run inside a transaction block", "vacuum t", "… cannot run inside a transaction block"},
		{"P0004", "s3cret", "", "an exception of a function" + notShown},
		{"XX000", "cache lookup failed for type 4711", "", "cache lookup failed for …"},
	} {
		assert.Equal(t, c.want, Describe(&pgconn.PgError{Severity: "ERROR", Code: c.code, Message: c.message}, c.sql), c.message)
	}
}

func TestAConstraintIsNamedByTheServerOnly(t *testing.T) {
	broken := pgconn.PgError{Code: "23505", Message: `duplicate key value violates unique constraint "k1"`, ConstraintName: "k1", File: "nbtinsert.c"}
	assert.Equal(t, broken.Message, Describe(&broken, ""))
	assert.Equal(t, "k1", Constraint(&broken))
	for _, file := range []string{"pl_exec.c", "plpy_elog.c", ""} {
		raised := broken
		raised.File = file
		assert.Equal(t, `duplicate key value violates unique constraint "…"`, Describe(&raised, ""), file)
		assert.Empty(t, Constraint(&raised))
	}
}

func TestADescriptionOfAnErrorOfTheClientsHasNoValues(t *testing.T) {
	for want, err := range map[string]error{
		`failed to encode args[0]: …`: errors.New(`failed to encode args[0]: unable to encode "s3cret"`),
		`failed to encode args[…]: …`: errors.New(`failed to encode args[4711]: unable to encode "s3cret"`),
		"context canceled":            fmt.Errorf("s3cret: %w", context.Canceled),
		"context deadline exceeded":   fmt.Errorf("s3cret: %w", context.DeadlineExceeded),
		"EOF":                         fmt.Errorf("s3cret: %w", io.EOF),
		"read tcp: reset":             fmt.Errorf("s3cret: %w", &net.OpError{Op: "read", Net: "tcp", Err: errors.New("reset")}),
		"conn closed":                 pgconn.ErrConnClosed,
		ErrAbandoned.Error():          ErrAbandoned,
		"an error of type *errors.errorString" + notShown: errors.New("s3cret"),
	} {
		assert.Equal(t, want, Describe(err, "select $1"))
	}
}

// TestNoPartOfAMessageGetsOutThatIsInNoSaying puts a secret into each placeholder, and each placeholder's neighbourhood.
func TestNoPartOfAMessageGetsOutThatIsInNoSaying(t *testing.T) {
	for line := range strings.Lines(messages) {
		line = strings.TrimSpace(line)
		for _, secret := range []string{"s3cret", `"s3cret"`, "4711", "s3cret' does not exist", `x" does not exist s3cret`, "a.s3cret(1)"} {
			message := line
			for _, kind := range "ntosa_" {
				message = strings.ReplaceAll(message, "%"+string(kind), secret)
			}
			got := Describe(&pgconn.PgError{Code: "42601", Message: message}, "select a.x from x where 's3cret' = '4711'")
			assert.NotContains(t, got, "s3cret", line)
			assert.NotContains(t, got, "4711", line)
			got = Describe(errors.New(message), "select a.x from x where 's3cret' = '4711'")
			assert.NotContains(t, got, "s3cret", line)
			assert.NotContains(t, got, "4711", line)
		}
	}
}

func TestEachSayingIsShownWithNamesOfTheStatement(t *testing.T) {
	for _, s := range shapes() {
		message := s.fill(make([]string, len(s.kinds)), func(byte, string) string { return "a" })
		got := Describe(&pgconn.PgError{Code: "42601", Message: message}, "select a")
		assert.NotContains(t, got, notShown, message)
		if !strings.ContainsAny(string(s.kinds), "_a") {
			assert.Equal(t, message, got)
		}
	}
}

func FuzzDescribe(f *testing.F) {
	f.Add(`relation "s3cret" does not exist`, "select a")
	f.Add(`column "a" of relation "s3cret" does not exist`, `select "a`)
	f.Fuzz(func(t *testing.T, message, sql string) {
		if strings.Contains(strings.ToLower(sql), "s3cret") {
			return
		}
		got := Describe(&pgconn.PgError{Code: "42601", Message: message}, sql)
		if strings.Contains(strings.ToLower(got), "s3cret") {
			t.Errorf("%q of %q says %q", message, sql, got)
		}
	})
}

func TestADeadPathHasATypeOfItsOwn(t *testing.T) {
	path := &hosts.PathError{Host: "db:5432", Address: "10.0.0.1:5432", For: 10204 * time.Millisecond}
	const text = "host db:5432 (10.0.0.1:5432) answers, but nothing of what was sent on this connection has been acknowledged for 10.2s"
	for _, err := range []error{path, &wire.GivenUpError{}} {
		err = fmt.Errorf("s3cret: %w", err)
		assert.Equal(t, PathDead, ErrorType(err))
		assert.NotContains(t, Describe(err, ""), "s3cret")
	}
	assert.Equal(t, text, Describe(path, ""))
}
