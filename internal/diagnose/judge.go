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

// judge returns a warning for each thing that is wrong with the server, the role or the settings. now is today's date, by
// which a version may be out of support.
func judge(cfg *settings.Config, f facts, now time.Time) (warnings []string) {
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	switch {
	case f.superuser:
		warn("the role %s is a superuser, for whom no rule holds: give the service a role with rights on its own tables only", f.user)
	case len(f.privileges) > 0:
		warn("the role %s has %s, which a service has no use for: take it away with ALTER ROLE", f.user, strings.Join(f.privileges, ", "))
	}
	if !f.encrypted && !settings.IsLocal(cfg.Conn.Host) && len(cfg.Warnings) == 0 {
		warn("the connection to %s is not encrypted: sslmode should be verify-full, or at least require", cfg.Conn.Host)
	}
	if cfg.PasswordInDSN {
		warn("the password stands in the DSN, which gets into logs and process lists: use password_file or DB_PASSWORD")
	}
	if limit := cfg.MaxConns(); limit > int64(f.room) && !f.pooled {
		warn("pool_size + max_overflow is %d, but the server has room for %d connections (%s): lower them, or raise the limit",
			limit, f.room, f.limits)
	}
	warnings = append(warnings, judgeSettings(cfg, f)...)
	if end, out := outOfSupport(f.version, now); out {
		warn("PostgreSQL %d gets no fixes any more, since %s: upgrade it", f.version/10000, end)
	}
	if apart := f.clock.Abs(); apart > clocksApart {
		warn("the server's clock and this machine's are %v apart: look at NTP on both", apart.Round(time.Millisecond))
	}
	for _, c := range f.collations {
		warnings = append(warnings, c.warning())
	}
	return warnings
}

// warning says which collation has changed, what harm may come of it, and what to do.
func (c collation) warning() string {
	change := fmt.Sprintf("version %s is recorded, the server's library has %s", c.recorded, cmp.Or(c.available, "none"))
	const harm = "indexes on text may be in another order than it, and miss rows or let duplicates in"
	if c.database {
		return fmt.Sprintf("the collation of the database %s has changed (%s): %s; REINDEX DATABASE %s, "+
			"then ALTER DATABASE %s REFRESH COLLATION VERSION", c.names, change, harm, c.names, c.names)
	}
	return fmt.Sprintf("collations that indexes use have changed, %s (%s): %s; REINDEX what uses them, "+
		"then ALTER COLLATION … REFRESH VERSION for each", c.names, change, harm)
}

// judgeSettings returns a warning for each setting that the DSN or server_settings asks for and the session doesn't have, as
// happens behind a pooler.
func judgeSettings(cfg *settings.Config, f facts) (warnings []string) {
	ours := maps.Clone(cfg.Conn.RuntimeParams)
	for _, s := range cfg.Set {
		ours[s.Name] = s.Value
	}
	for _, name := range slices.Sorted(maps.Keys(ours)) {
		s, known := f.settings[strings.ToLower(name)]
		switch {
		case !known: // an extension's setting, or options, which contains other settings
		case s.source != "client" && s.source != "session":
			warnings = append(warnings, fmt.Sprintf("the server setting %s=%s is not in force, the server has %s from %s: "+
				"drop it with server_settings=%s=, or behind a pooler try server_settings_mode=set",
				name, ours[name], s.value, s.source, name))
		}
	}
	return warnings
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
