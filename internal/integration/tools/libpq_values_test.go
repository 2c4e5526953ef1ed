package tools

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/lib/pq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// scanned is what a value is when it is scanned into an any.
func scanned(t *testing.T, db *sql.DB, query string) string {
	t.Helper()
	var v any
	require.NoError(t, db.QueryRow("select "+query).Scan(&v), query)
	if b, ok := v.([]byte); ok {
		return fmt.Sprintf("[]byte %s", b)
	}
	return fmt.Sprintf("%T %v", v, v)
}

// What lib/pq doesn't know is []byte; what pgx doesn't know is string. Both scan into a string, a []byte or a Scanner.
func TestScannedIntoAnAnyUnknownTypesAreStringsNotBytes(t *testing.T) {
	t.Parallel()
	theirs, ours := both(t)
	for query, text := range map[string]string{
		"1.50::numeric": "1.50", "interval '1 day 2 hours'": "1 day 02:00:00", "'{1,2}'::int[]": "{1,2}",
		"'00000000-0000-0000-0000-000000000001'::uuid": "00000000-0000-0000-0000-000000000001",
		"'1.2.3.4'::inet": "1.2.3.4", "'[1,3)'::int4range": "[1,3)", "12.5::money": "$12.50", "'(1,2)'::point": "(1,2)",
		"'infinity'::timestamptz": "infinity", "B'101'::varbit": "101", "'a'::name": "a",
	} {
		assert.Equal(t, "[]byte "+text, scanned(t, theirs, query))
		assert.Equal(t, "string "+text, scanned(t, ours, query))
		for _, db := range []*sql.DB{theirs, ours} {
			assert.Equal(t, text, get[string](t, db, "select "+query))
			assert.Equal(t, text, string(get[[]byte](t, db, "select "+query)))
		}
	}
	for query, want := range map[string]string{
		"1::int2": "int64 1", "1::int8": "int64 1", "1.5::float4": "float64 1.5", "true": "bool true",
		"'x'::text": "string x", "'x'::varchar": "string x", "'x'::char(3)": "string x  ", `'\x41'::bytea`: "[]byte A",
		`'{"a": 1}'::jsonb`: `[]byte {"a": 1}`, "'<a/>'::xml": "[]byte <a/>", "null": "<nil> <nil>",
	} {
		assert.Equal(t, want, scanned(t, theirs, query))
		assert.Equal(t, want, scanned(t, ours, query))
	}
}

func TestATimestampWithZoneIsLocalAndWithLibpqInTheSessionsZone(t *testing.T) {
	t.Parallel()
	dsn := with(pgtest.NewDatabase(t), "timezone", "Asia/Tokyo")
	theirs, ours := open(t, "postgres", dsn), open(t, "pgprod", dsn)
	const query = "select '2024-07-01 12:00+00'::timestamptz"
	was, is := get[time.Time](t, theirs, query), get[time.Time](t, ours, query)
	assert.True(t, was.Equal(is))
	assert.Equal(t, "Asia/Tokyo", was.Location().String())
	assert.Equal(t, time.Local, is.Location())

	for _, query := range []string{"select '2024-07-01 12:00'::timestamp", "select '2024-07-01'::date"} {
		was, is := get[time.Time](t, theirs, query), get[time.Time](t, ours, query)
		assert.True(t, was.Equal(is), "both at offset zero")
		assert.Equal(t, time.FixedZone("", 0).String(), was.Location().String(), "a nameless zone")
		assert.Equal(t, time.UTC, is.Location())
	}
}

func TestATimeOfDayIsATextAndWithLibpqATime(t *testing.T) {
	t.Parallel()
	theirs, ours := both(t)
	const query = "select '12:34:56'::time"
	assert.Equal(t, time.Date(0, 1, 1, 12, 34, 56, 0, time.UTC), get[time.Time](t, theirs, query).UTC())
	var at time.Time
	require.ErrorContains(t, ours.QueryRow(query).Scan(&at), "storing driver.Value type string into type *time.Time")
	assert.Equal(t, "12:34:56", get[string](t, ours, query))
	assert.Equal(t, pgtype.Time{Microseconds: 45296e6, Valid: true}, get[pgtype.Time](t, ours, query))
}

// An argument is either of the parameter's type or refused before it is sent; the modes without types take it as text.
func TestArgumentsMustFitTheParametersType(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	theirs, ours := open(t, "postgres", dsn), open(t, "pgprod", dsn)
	untyped := open(t, "pgprod", with(dsn, "default_query_exec_mode", "exec"))
	for _, c := range []struct {
		query string
		arg   any
		was   string
		is    string // with pgprod: "" for an error
		mode  string // with default_query_exec_mode=exec
	}{
		{"$1::text", 1, "1", "", "1"},
		{"'a' || $1", 1, "a1", "", "a1"},
		{"$1::text", 1.5, "1.5", "", "1.5"},
		{"'a' || $1::int", 1, "a1", "a1", "a1"}, // so that its type is another
		{"$1::bool::text", 1, "true", "", "true"},
		{"$1::int::text", "1", "1", "1", "1"},
		{"$1::int::text", []byte("1"), "1", "1", ""}, // which makes it a bytea
		{"$1::numeric::text", "1.50", "1.50", "1.50", "1.50"},
		{"$1::interval::text", "1 day", "1 day", "1 day", "1 day"},
		{"$1::interval::text", time.Second, "277777:46:40", "00:00:01", "00:00:01"}, // lib/pq: its nanoseconds, as seconds
		{"$1::uuid::text", "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000001",
			"00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000001"},
		{"$1::date::text", "2024-01-01", "2024-01-01", "2024-01-01", "2024-01-01"},
		{"$1::jsonb::text", []byte(`{"a":1}`), `{"a": 1}`, `{"a": 1}`, ""},
		{"$1::jsonb::text", `{"a":1}`, `{"a": 1}`, `{"a": 1}`, `{"a": 1}`},
		{"$1::jsonb::text", json.RawMessage(`{"a":1}`), `{"a": 1}`, `{"a": 1}`, `{"a": 1}`},
		{"$1::jsonb::text", map[string]int{"a": 1}, "", `{"a": 1}`, ""},
		{"$1::int[]::text", pq.Array([]int{1, 2}), "{1,2}", "{1,2}", "{1,2}"},
		{"$1::int[]::text", []int{1, 2}, "{1,2}", "{1,2}", "{1,2}"},
	} {
		for want, db := range map[*string]*sql.DB{&c.was: theirs, &c.is: ours, &c.mode: untyped} {
			var text string
			err := db.QueryRow("select "+c.query, c.arg).Scan(&text)
			assert.Equal(t, *want == "", err != nil, "%s of %T: %v", c.query, c.arg, err)
			if err == nil {
				assert.Equal(t, *want, text, "%s of %T", c.query, c.arg)
			}
		}
	}
	var text string
	require.EqualError(t, ours.QueryRow("select $1::text", 1).Scan(&text),
		"failed to encode args[0]: unable to encode 1 into text format for text (OID 25): cannot find encode plan")
}
