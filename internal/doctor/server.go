package doctor

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgprod/pgprod/internal/diagnose"
	"github.com/pgprod/pgprod/internal/link"
)

// server looks at how the server is set up, by the questions of the preflight and some more.
func (p place) server(ctx context.Context, s *session) {
	facts, err := p.facts(ctx, s)
	if err != nil {
		p.warn("catalogue", "is it PostgreSQL, and may the role read pg_catalog?", "it can't be asked: %s",
			link.SafeText(s.Real(err)))
		return
	}
	found := diagnose.Judge(s.cfg, facts, p.Instances, time.Now())
	p.findings(diagnose.AboutRole, found, "%s, without privileges that a service has no use for", facts.User)
	p.findings(diagnose.AboutVersion, found, "PostgreSQL %d still gets fixes", facts.Version/10000)
	p.findings(diagnose.AboutClock, found, "the server's and this machine's are %v apart", short(facts.Clock.Abs()))
	p.findings(diagnose.AboutCollation, found, "indexes on text are sorted by the versions that the server has")
	p.findings(diagnose.AboutSettings, found, "%s", inSession(s))
	p.encoding(facts)
	p.overridden(facts)
	p.timeouts(facts)
	p.limits(facts, found)
	p.replication(ctx, s, facts)
	p.pooler(ctx, s, facts)
}

// facts asks the preflight's questions.
func (p place) facts(ctx context.Context, s *session) (diagnose.Facts, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	return diagnose.AskFacts(ctx, s.Conn, 1)
}

// inSession says which server settings are in force, of which the preflight found nothing to say.
func inSession(s *session) string {
	all := serverSettings(s.cfg)
	if len(all) == 0 {
		return "none are asked for"
	}
	return fmt.Sprintf("in force (server_settings_mode=%s): %s", s.cfg.ServerSettingsMode, strings.Join(all, ", "))
}

// encoding says whether the server keeps texts as Go does.
func (p place) encoding(f diagnose.Facts) {
	if encoding := f.Settings["server_encoding"].Value; encoding != "UTF8" {
		p.warn("encoding", "move to a database with ENCODING 'UTF8'",
			"the database's encoding is %s, in which not every text can be kept", encoding)
		return
	}
	p.ok("encoding", "UTF8")
}

// overridden says which settings the role or the database has been given, as they hold for this program only.
func (p place) overridden(f diagnose.Facts) {
	var all []string
	for name, s := range f.Settings {
		if slices.Contains([]string{"user", "database", "database user"}, s.Source) {
			all = append(all, name+"="+s.Value+" ("+s.Source+")")
		}
	}
	slices.Sort(all)
	if len(all) == 0 {
		p.ok("overrides", "ALTER ROLE and ALTER DATABASE change no setting")
		return
	}
	p.ok("overrides", "ALTER ROLE or ALTER DATABASE sets %s", strings.Join(all, ", "))
}

// timeouts compares the server's limits of time with the pool's.
func (p place) timeouts(f diagnose.Facts) {
	const check = "timeouts"
	found := false
	shorter := func(name string, than time.Duration, key, consequence string) {
		limit := milliseconds(f, name)
		if limit > 0 && (than <= 0 || limit <= than) {
			found = true
			p.warn(check, fmt.Sprintf("set %s below it, or raise it with server_settings=%s=…", key, name),
				"the server's %s is %v: %s before %s=%v", name, limit, consequence, key, than)
		}
	}
	shorter("statement_timeout", p.cfg.CommandTimeout, "command_timeout", "it ends statements")
	shorter("transaction_timeout", p.cfg.CommandTimeout, "command_timeout", "it ends transactions, and their connections,")
	shorter("idle_session_timeout", p.cfg.PoolIdleTimeout, "pool_idle_timeout", "it closes idle connections of the pool")
	if f.Settings["default_transaction_read_only"].Value == "on" {
		found = true
		p.warn(check, "ALTER ROLE or ALTER DATABASE … RESET default_transaction_read_only",
			"transactions are read-only by default")
	}
	if !found {
		p.ok(check, "the server's are not shorter than command_timeout=%v and pool_idle_timeout=%v",
			p.cfg.CommandTimeout, p.cfg.PoolIdleTimeout)
	}
}

// milliseconds is a setting whose unit that is; 0: none.
func milliseconds(f diagnose.Facts, name string) time.Duration {
	n, _ := strconv.Atoi(strings.TrimSuffix(f.Settings[name].Value, "ms"))
	return time.Duration(n) * time.Millisecond
}

// limits compares the pools of all instances with the connections that the server has room for.
func (p place) limits(f diagnose.Facts, found []diagnose.Finding) {
	const check = string(diagnose.AboutLimits)
	switch limit := p.cfg.MaxConns(); {
	case f.Pooled:
		p.skip(check, "a pooler is in between, whose own limits count: of its clients, and of its connections to the server")
	case limit == 0:
		p.warn(check, "set max_overflow", "max_overflow=-1 is without a limit, but the server has room for %d connections (%s)",
			f.Room, f.Limits)
	default:
		p.findings(diagnose.AboutLimits, found,
			"%d connections for -instances %d (pool_size + max_overflow is %d); there is room for %d (%s)",
			limit*int64(p.Instances), p.Instances, limit, f.Room, f.Limits)
	}
}
