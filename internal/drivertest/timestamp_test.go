package drivertest

import (
	"database/sql"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// TestATimeInATimestampColumnIsInUTCWithTheModesThatTheManualWarnsOf compares with plain pgx, whatever the session's zone.
func TestATimeInATimestampColumnIsInUTCWithTheModesThatTheManualWarnsOf(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	judge := openPgx(t, dsn)
	mustExec(t, judge, "create table events (at timestamp, day date, exact timestamptz)")
	at := time.Date(2024, 1, 2, 1, 31, 0, 0, time.FixedZone("", 2*3600))
	const wallClock, inUTC = "2024-01-02 01:31:00", "2024-01-01 23:31:00"
	for mode, want := range map[string]string{
		"cache_statement": wallClock, "cache_describe": wallClock, "describe_exec": wallClock, "exec": inUTC, "simple_protocol": inUTC,
	} {
		for _, zone := range []string{"UTC", "Asia/Tokyo"} {
			url := with(dsn, "default_query_exec_mode", mode, "timezone", zone)
			for driver, db := range map[string]*sql.DB{"pgx": openPgx(t, url), "pgprod": openPool(t, url)} {
				check := func(sent time.Time, want string) {
					t.Helper()
					mustExec(t, db, "insert into events values ($1, $2, $3)", sent, sent, sent)
					var stored, day, exact string
					require.NoError(t, judge.QueryRow("delete from events returning at::text, day::text, (exact at time zone 'UTC')::text").Scan(&stored, &day, &exact))
					assert.Equal(t, want, stored, "%s, %s, %s", driver, mode, zone)
					assert.Equal(t, want[:len("2024-01-02")], day, "%s, %s, %s", driver, mode, zone)
					assert.Equal(t, inUTC, exact, "%s, %s, %s", driver, mode, zone)
				}
				check(at, want)
				check(at.UTC(), inUTC)
			}
		}
	}
}

func TestTheManualSaysOfTimesWhereItAdvisesAModeThatChangesThem(t *testing.T) {
	t.Parallel()
	migrating, poolers := rootFile(t, "internal/docs/migrating.md"), rootFile(t, "internal/docs/poolers.md")
	for what, part := range map[string]string{
		"times": section(t, migrating, "Times in timestamp columns"), "PgBouncer": section(t, poolers, "Behind PgBouncer"),
		"pgx": section(t, migrating, "Coming from pgx"), "lib/pq": section(t, migrating, "Coming from lib/pq"),
	} {
		assert.Regexp(t, "`timestamp`", part, what)
		assert.Regexp(t, "UTC", part, what)
	}
	bun := regexp.MustCompile(`(?m)^\| bun \|.*$`).FindString(migrating)
	assert.Contains(t, bun, "`timestamp`")
}
