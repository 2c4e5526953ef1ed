package diagnose

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/settings"
)

// What a test's server can't be made to be: far away, of another age, out of time.
func TestWhatThePreflightMakesOfTheFacts(t *testing.T) {
	now := Facts{User: "app", Encrypted: true, Room: 100, Version: 180001, Settings: map[string]Setting{
		"jit": {"off", "client"}, "random_page_cost": {"1.1", "client"}, "effective_cache_size": {"1GB", "client"},
		"idle_in_transaction_session_timeout": {"300000ms", "client"}, "statement_timeout": {"31000ms", "client"},
		"application_name": {"x", "client"},
	}}
	for _, c := range []struct {
		name   string
		dsn    string
		change func(*Facts)
		want   string
	}{
		{"all is well", "host=db.example.com", func(*Facts) {}, ""},
		{"not encrypted", "host=db.example.com environment=development", func(f *Facts) { f.Encrypted = false },
			"the connection to db.example.com is not encrypted"},
		{"not encrypted, but local", "host=127.0.0.1", func(f *Facts) { f.Encrypted = false }, ""},
		{"an old version", "host=h", func(f *Facts) { f.Version = 120022 }, "PostgreSQL 12 gets no fixes any more, since 2025-11-13 or earlier"},
		{"a version whose last fixes were this month's", "host=h", func(f *Facts) { f.Version = 140023 },
			"PostgreSQL 14 gets no fixes any more, since 2026-11-12: upgrade it"},
		{"the newest version", "host=h", func(f *Facts) { f.Version = 190000 }, ""},
		{"a version of the future", "host=h", func(f *Facts) { f.Version = 990000 }, ""},
		{"a clock ahead", "host=h", func(f *Facts) { f.Clock = 3 * time.Second }, "3s apart"},
		{"a clock behind", "host=h", func(f *Facts) { f.Clock = -time.Hour }, "1h0m0s apart"},
		{"no room", "host=h", func(f *Facts) { f.Room, f.Limits = 29, "because" }, "has room for 29 connections (because)"},
		{"just enough room", "host=h", func(f *Facts) { f.Room = 30 }, ""},
		{"no room for no limit", "host=h max_overflow=-1", func(f *Facts) { f.Room = 1 }, ""},
		{"a setting that was overridden", "host=h", func(f *Facts) { f.Settings["jit"] = Setting{"on", "configuration file"} },
			"jit=off is not in force, the server has on from configuration file"},
		{"the database's collation", "host=h", func(f *Facts) { f.Collations = []Collation{{true, `"a b"`, "2.31", "2.36"}} },
			`version 2.31 is recorded, the server's library has 2.36): indexes on text may be in another order than it, and miss rows or ` +
				`let duplicates in; REINDEX DATABASE "a b", then ALTER DATABASE "a b" REFRESH COLLATION VERSION`},
		{"collations of indexes", "host=h", func(f *Facts) { f.Collations = []Collation{{false, "de, en", "1", ""}} },
			"collations that indexes use have changed, de, en (version 1 is recorded, the server's library has none)"},
		{"a setting of an extension", "host=h server_settings=my.own=1", func(*Facts) {}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := now
			f.Settings = map[string]Setting{}
			for name, s := range now.Settings {
				f.Settings[name] = s
			}
			c.change(&f)
			cfg, err := settings.Load(c.dsn, nil, settings.Values{}, "")
			require.NoError(t, err)
			got := sentences(Judge(cfg, f, 1, time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)))
			if c.want == "" {
				assert.Empty(t, got)
				return
			}
			require.Len(t, got, 1)
			assert.Contains(t, got[0], c.want)
			assert.False(t, strings.Contains(got[0], "\n"))
		})
	}
}

func TestTheRoomIsWhatTheNarrowestLimitLeaves(t *testing.T) {
	for _, c := range []struct{ server, backends, role, database, inDatabase, ours, want int }{
		{97, 10, -1, -1, 10, 10, 97},
		{97, 50, -1, -1, 10, 10, 57},
		{97, 50, 20, -1, 10, 10, 20},
		{97, 10, -1, 15, 12, 10, 13},
		{97, 3, -1, -1, 3, 10, 97}, // the server's figures lag behind
	} {
		var f Facts
		f.roomIn(c.server, c.backends, c.role, c.database, c.inDatabase, c.ours)
		assert.Equal(t, c.want, f.Room, "%+v", c)
		assert.NotEmpty(t, f.Limits)
		assert.EqualValues(t, c.server, f.limit())
		f.Pooled = true
		assert.Zero(t, f.limit(), "the limits behind a pooler are the pooler's")
	}
}

func TestAVersionIsOutOfSupportFromItsLastDayOn(t *testing.T) {
	day := func(s string) time.Time { d, _ := time.Parse(time.DateOnly, s); return d }
	_, out := outOfSupport(150004, day("2027-11-10"))
	assert.False(t, out)
	since, out := outOfSupport(150004, day("2027-11-12"))
	assert.True(t, out)
	assert.Equal(t, "2027-11-11", since)
	for major := 14; major <= 19; major++ { // five years after its release, in the week of the second Thursday of November
		day, err := time.Parse(time.DateOnly, lastFixes[major])
		require.NoError(t, err, major)
		assert.Equal(t, time.Thursday, day.Weekday(), major)
		assert.Equal(t, 2012+major, day.Year())
	}
}
