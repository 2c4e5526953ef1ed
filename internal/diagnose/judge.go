package diagnose

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pgprod/pgprod/internal/settings"
)

// A Finding is one thing that is wrong.
type Finding struct {
	Topic  Topic
	What   string // what is wrong
	Advice string // what to do
}

// String returns the finding as one sentence.
func (f Finding) String() string { return f.What + ": " + f.Advice }

// A Topic is what a finding is about.
type Topic string

// The topics of the preflight.
const (
	AboutRole      Topic = "role"
	AboutTLS       Topic = "tls"
	AboutPassword  Topic = "password"
	AboutLimits    Topic = "limits"
	AboutSettings  Topic = "server settings"
	AboutVersion   Topic = "version"
	AboutClock     Topic = "clock"
	AboutCollation Topic = "collation"
)

// Judge returns what is wrong with the server, the role or the settings. instances is how many pools with these settings
// there are. now is today's date, by which a version may be out of support.
func Judge(cfg *settings.Config, f Facts, instances int, now time.Time) (findings []Finding) {
	find := func(topic Topic, advice, format string, args ...any) {
		findings = append(findings, Finding{topic, fmt.Sprintf(format, args...), advice})
	}
	switch {
	case f.Superuser:
		find(AboutRole, "give the service a role with rights on its own tables only",
			"the role %s is a superuser, for whom no rule holds", f.User)
	case len(f.Privileges) > 0:
		find(AboutRole, "take it away with ALTER ROLE",
			"the role %s has %s, which a service has no use for", f.User, strings.Join(f.Privileges, ", "))
	}
	if !f.Encrypted && !cfg.Given.Dials && !settings.IsLocal(cfg.Conn.Host) && len(cfg.Warnings) == 0 {
		find(AboutTLS, "sslmode should be verify-full, or at least require",
			"the connection to %s is not encrypted", cfg.Conn.Host)
	}
	findings = append(findings, JudgePassword(cfg)...)
	if limit := cfg.MaxConns(); limit*int64(instances) > int64(f.Room) && !f.Pooled {
		find(AboutLimits, "lower them, or raise the limit",
			"pool_size + max_overflow is %d%s, but the server has room for %d connections (%s)",
			limit, inAll(limit, instances), f.Room, f.Limits)
	}
	findings = append(findings, judgeSettings(cfg, f)...)
	if end, out := outOfSupport(f.Version, now); out {
		find(AboutVersion, "upgrade it", "PostgreSQL %d gets no fixes any more, since %s", f.Version/10000, end)
	}
	if apart := f.Clock.Abs(); apart > clocksApart {
		find(AboutClock, "look at NTP on both", "the server's clock and this machine's are %v apart",
			apart.Round(time.Millisecond))
	}
	for _, c := range f.Collations {
		findings = append(findings, c.finding())
	}
	return findings
}

// JudgePassword says whether the password stands where others see it.
func JudgePassword(cfg *settings.Config) []Finding {
	if !cfg.PasswordInDSN {
		return nil
	}
	return []Finding{{AboutPassword, "the password stands in the DSN, which gets into logs and process lists",
		"use password_file or DB_PASSWORD"}}
}

// inAll says how many connections the pools of several instances have together. It returns "" for one.
func inAll(limit int64, instances int) string {
	if instances <= 1 {
		return ""
	}
	return fmt.Sprintf(", and %d in %d instances", limit*int64(instances), instances)
}

// finding says which collation has changed, what harm may come of it, and what to do.
func (c Collation) finding() Finding {
	change := fmt.Sprintf("version %s is recorded, the server's library has %s", c.recorded, cmp.Or(c.available, "none"))
	const harm = "indexes on text may be in another order than it, and miss rows or let duplicates in"
	if c.database {
		return Finding{AboutCollation, fmt.Sprintf("the collation of the database %s has changed (%s)", c.names, change),
			fmt.Sprintf("%s; REINDEX DATABASE %s, then ALTER DATABASE %s REFRESH COLLATION VERSION", harm, c.names, c.names)}
	}
	return Finding{AboutCollation, fmt.Sprintf("collations that indexes use have changed, %s (%s)", c.names, change),
		harm + "; REINDEX what uses them, then ALTER COLLATION … REFRESH VERSION for each"}
}

// judgeSettings returns a finding for each setting that the DSN or server_settings asks for and the session doesn't have, as
// happens behind a pooler.
func judgeSettings(cfg *settings.Config, f Facts) (findings []Finding) {
	ours := maps.Clone(cfg.Conn.RuntimeParams)
	for _, s := range cfg.Set {
		ours[s.Name] = s.Value
	}
	for _, name := range slices.Sorted(maps.Keys(ours)) {
		s, known := f.Settings[strings.ToLower(name)]
		switch {
		case slices.Contains(f.Dropped, name): // there is a warning of its own
		case !known: // an extension's setting, or options, which contains other settings
		case s.Source != "client" && s.Source != "session":
			findings = append(findings, Finding{AboutSettings,
				fmt.Sprintf("the server setting %s=%s is not in force, the server has %s from %s", name, ours[name], s.Value, s.Source),
				fmt.Sprintf("drop it with server_settings=%s=, or behind a pooler try server_settings_mode=set", name)})
		}
	}
	return findings
}

// lastFixes says when each major version of PostgreSQL gets its last fixes, by
// https://www.postgresql.org/support/versioning/.
var lastFixes = map[int]string{
	14: "2026-11-12", 15: "2027-11-11", 16: "2028-11-09", 17: "2029-11-08", 18: "2030-11-14",
	19: "2031-11-13", // by the rule, five years after its release: the second Thursday of November
}

// outOfSupport reports whether a version, a server_version_num, gets no more fixes, and since when. It assumes that a
// version which isn't in the table is newer than the table, unless it is older than all that were supported when the table
// was made.
func outOfSupport(version int, now time.Time) (since string, out bool) {
	major := version / 10000
	if major < 14 {
		return "2025-11-13 or earlier", true
	}
	since = lastFixes[major]
	end, err := time.Parse(time.DateOnly, since)
	return since, err == nil && now.After(end)
}
