package tools

import (
	"database/sql"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// requireReturns sends a value as a parameter of a type, and checks that the server gives the same back.
func requireReturns[T any](t *testing.T, db *sql.DB, typeName string, value T) {
	t.Helper()
	require.Equal(t, value, get[T](t, db, "select $1::"+typeName, value), typeName)
}

func TestTypesOfPgxGoToTheServerAndBack(t *testing.T) {
	t.Parallel()
	db := newPool(t)
	at := time.Date(2024, 2, 29, 12, 34, 56, 789000000, time.UTC)
	requireReturns(t, db, "numeric", pgtype.Numeric{Int: big.NewInt(-12345), Exp: -2, Valid: true})
	requireReturns(t, db, "numeric", pgtype.Numeric{NaN: true, Valid: true})
	requireReturns(t, db, "numeric", pgtype.Numeric{})
	requireReturns(t, db, "interval", pgtype.Interval{Months: 14, Days: -3, Microseconds: 5e6, Valid: true})
	requireReturns(t, db, "uuid", pgtype.UUID{Bytes: [16]byte{15: 1}, Valid: true})
	requireReturns(t, db, "date", pgtype.Date{Time: at.Truncate(24 * time.Hour), Valid: true})
	requireReturns(t, db, "date", pgtype.Date{InfinityModifier: pgtype.Infinity, Valid: true})
	requireReturns(t, db, "timestamp", pgtype.Timestamp{Time: at, Valid: true})
	requireReturns(t, db, "timestamptz", pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true})
	requireReturns(t, db, "time", pgtype.Time{Microseconds: 45296e6, Valid: true})
	requireReturns(t, db, "int4", pgtype.Int4{Int32: 7, Valid: true})
	requireReturns(t, db, "text", pgtype.Text{})
	requireReturns(t, db, "bool", pgtype.Bool{Bool: true, Valid: true})
	requireReturns(t, db, "point", pgtype.Point{P: pgtype.Vec2{X: 1.5, Y: -2}, Valid: true})
	requireReturns(t, db, "varbit", pgtype.Bits{Bytes: []byte{0b10100000}, Len: 3, Valid: true})
}

// requireScans is requireReturns for what is no sql.Scanner by itself: pgx's map makes one of it. The map must be told
// which type of the server it is, by the catalogue's name, for what isn't among its own.
func requireScans[T any](t *testing.T, db *sql.DB, typeName string, value T) {
	t.Helper()
	var got T
	types := pgtype.NewMap()
	types.RegisterDefaultPgType(&got, typeName)
	row := db.QueryRow("select $1::"+typeName, value)
	require.NoError(t, row.Scan(types.SQLScanner(&got)), typeName)
	require.Equal(t, value, got, typeName)
}

func TestSlicesRangesAndMapsAreArgumentsAndScanThroughPgxsMap(t *testing.T) {
	t.Parallel()
	db := newPool(t)
	requireScans(t, db, "_int4", []int32{1, -2, 3})
	requireScans(t, db, "_int8", []int64{})
	requireScans(t, db, "_int8", []int64(nil))
	requireScans(t, db, "_text", []string{"a", `b"c,d`, "", "NULL"})
	requireScans(t, db, "_text", []*string{nil, new("x")})
	requireScans(t, db, "_int4", [][]int32{{1, 2}, {3, 4}})
	requireScans(t, db, "_float8", []float64{1.5, -2})
	requireScans(t, db, "_bytea", [][]byte{{0, 1}, {}})
	requireScans(t, db, "_uuid", [][16]byte{{15: 1}})
	requireScans(t, db, "int4range", pgtype.Range[pgtype.Int4]{Lower: pgtype.Int4{Int32: 1, Valid: true},
		Upper: pgtype.Int4{Int32: 9, Valid: true}, LowerType: pgtype.Inclusive, UpperType: pgtype.Exclusive, Valid: true})
	newYear := pgtype.Date{Time: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), Valid: true}
	requireScans(t, db, "daterange", pgtype.Range[pgtype.Date]{Lower: newYear, LowerType: pgtype.Inclusive,
		UpperType: pgtype.Unbounded, Valid: true})
	requireScans(t, db, "interval", 90*time.Minute)
	assert.Equal(t, 2, get[int](t, db, "select count(*) from generate_series(1, 5) n where n = any($1)", []int{2, 4, 9}))
}

type item struct {
	Name string   `json:"name"`
	Tags []string `json:"tags"`
}

func TestJSONIsWrittenFromAndReadIntoStructsAndRawMessages(t *testing.T) {
	t.Parallel()
	db := newPool(t)
	want := item{"pen", []string{"blue"}}
	for _, typeName := range []string{"json", "jsonb"} {
		requireScans(t, db, typeName, want)
		requireScans(t, db, typeName, map[string]any{"a": 1.5, "b": nil})
		raw := get[json.RawMessage](t, db, "select $1::"+typeName, json.RawMessage(`{"name": "pen"}`))
		assert.JSONEq(t, `{"name": "pen"}`, string(raw))
		var got item
		require.NoError(t, json.Unmarshal(get[[]byte](t, db, "select $1::"+typeName, want), &got))
		assert.Equal(t, want, got)
		assert.Nil(t, get[*json.RawMessage](t, db, "select null::"+typeName))
	}
	assert.Equal(t, "pen", get[string](t, db, "select $1::jsonb ->> 'name'", want))
}

func TestGooglesUUIDIsAnArgumentAndADestination(t *testing.T) {
	t.Parallel()
	db := newPool(t)
	id := uuid.MustParse("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
	requireReturns(t, db, "uuid", id)
	requireReturns(t, db, "uuid", uuid.NullUUID{UUID: id, Valid: true})
	requireReturns(t, db, "uuid", uuid.NullUUID{})
	requireScans(t, db, "_uuid", []uuid.UUID{id})
	assert.Equal(t, id.String(), get[string](t, db, "select $1::uuid", id))
}

// A timestamp without a zone is the clock's reading: the argument's zone is dropped, not converted.
func TestTimesKeepTheirInstantOrTheirReading(t *testing.T) {
	t.Parallel()
	db := open(t, "pgprod", with(pgtest.NewDatabase(t), "timezone", "America/New_York"))
	tokyo := time.FixedZone("", 9*3600)
	at := time.Date(2024, 1, 1, 1, 30, 0, 123456000, tokyo)

	withZone := get[time.Time](t, db, "select $1::timestamptz", at)
	assert.True(t, at.Equal(withZone))
	assert.Equal(t, time.Local, withZone.Location())
	assert.Equal(t, "2023-12-31 11:30:00.123456-05", get[string](t, db, "select $1::timestamptz::text", at))
	assert.Equal(t, time.Date(2024, 1, 1, 1, 30, 0, 123456000, time.UTC), get[time.Time](t, db, "select $1::timestamp", at))
	assert.Equal(t, time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), get[time.Time](t, db, "select $1::date", at))
	assert.Equal(t, sql.NullTime{}, get[sql.NullTime](t, db, "select $1::timestamptz", nil))
}

func TestNumbersOfAnySizeArriveWhole(t *testing.T) {
	t.Parallel()
	db := newPool(t)
	digits := "-" + strings.Repeat("1234567890", 20) + ".50"
	assert.Equal(t, digits, get[string](t, db, "select $1::numeric", digits))
	big100, _ := new(big.Int).SetString(strings.Repeat("9", 100), 10)
	number := get[pgtype.Numeric](t, db, "select $1::numeric", pgtype.Numeric{Int: big100, Valid: true})
	value, err := number.Value()
	require.NoError(t, err)
	assert.Equal(t, strings.Repeat("9", 100), value)
	requireReturns(t, db, "bigint", int64(-1)<<63)
	assert.Equal(t, "18446744073709551615", get[string](t, db, "select $1::numeric", uint64(1<<64-1)))
	var small int32
	require.ErrorContains(t, db.QueryRow("select 1::bigint << 40").Scan(&small), "out of range")
}

func TestNullsAndBytesArriveAsTheyAre(t *testing.T) {
	t.Parallel()
	db := newPool(t)
	assert.Nil(t, get[*string](t, db, "select $1::text", (*string)(nil)))
	requireReturns(t, db, "int", sql.Null[int]{V: 5, Valid: true})
	requireReturns(t, db, "text", sql.NullString{})
	assert.Nil(t, get[[]byte](t, db, "select null::bytea"))
	assert.NotNil(t, get[[]byte](t, db, `select ''::bytea`))
	requireReturns(t, db, "bytea", []byte{0, 1, 254, 255, '\\', '\''})
	var kept sql.RawBytes
	rows, err := db.Query(`select $1::bytea`, []byte("raw"))
	require.NoError(t, err)
	defer rows.Close()
	require.True(t, rows.Next())
	require.NoError(t, rows.Scan(&kept))
	assert.Equal(t, "raw", string(kept))
}
