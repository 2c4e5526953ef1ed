package pool

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/settings"
)

// preflight looks once, when the first connection has been made, at what the server thinks of us.
type preflight struct {
	once  sync.Once
	timer *time.Timer // begins it; set by once
	slow  int         // how often it took too long; only the timer's calls use it, which come one after the other

	mu       sync.Mutex // guards warnings
	warnings []string
}

// found keeps the warnings for checks of the pool's health.
func (f *preflight) found(warnings []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.warnings = warnings
}

// known are the warnings of the last preflight.
func (f *preflight) known() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.warnings)
}

const (
	// preflightDelay keeps it out of the way of the first statements.
	preflightDelay = 500 * time.Millisecond
	// preflightTimeout bounds it: there may be somebody who waits for the connection.
	preflightTimeout = time.Second
	// preflightRepeats is how often it is repeated where that was too short, after longer and longer pauses.
	preflightRepeats = 5
	// clocksApart is how far the server's clock may be from ours.
	clocksApart = 2 * time.Second
)

// planPreflight is called for each connection that was made.
func (p *Pool) planPreflight() {
	if p.cfg.Preflight {
		p.preflight.once.Do(func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if !p.closed.Load() {
				p.preflight.timer = time.AfterFunc(preflightDelay, p.runPreflight)
			}
		})
	}
}

// runPreflight asks over a connection of the pool that lies idle, so that nobody waits for it, and none is made for it. If
// there is none it comes again. It is called by the timer.
func (p *Pool) runPreflight() {
	p.tasks.run(func() {
		ctx, cancel := context.WithTimeout(p.life, preflightTimeout)
		defer cancel()
		var f facts
		asked, err := p.withIdle(ctx, func(c *conn) (err error) {
			f, err = c.facts(ctx)
			return err
		})
		switch {
		case p.life.Err() != nil: // the pool was closed meanwhile, which says nothing of the server
		case !asked:
			p.repeatPreflight(preflightDelay)
		case err != nil && ctx.Err() != nil && p.preflight.slow < preflightRepeats:
			p.preflight.slow++
			p.repeatPreflight(preflightDelay << p.preflight.slow)
		case err != nil: // some views are closed to this role, or it is no PostgreSQL: not worth another connection
			p.diary.PreflightFailed(ctx, instruments.Describe(err, ""))
		default:
			warnings := p.judge(f, time.Now())
			p.preflight.found(warnings)
			p.diary.Preflight(ctx, warnings)
		}
	})
}

// repeatPreflight has it run again after a pause, unless the pool is closed.
func (p *Pool) repeatPreflight(pause time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed.Load() {
		p.preflight.timer.Reset(pause)
	}
}

// withIdle calls f with an idle connection, and reports whether there was one. It is no checkout that anybody counts.
func (p *Pool) withIdle(ctx context.Context, f func(*conn) error) (found bool, err error) {
	if !p.queue.TryAcquire() {
		return false, nil
	}
	defer p.queue.ReleaseAside()
	c, err := p.takeIdle(ctx)
	if err != nil {
		return false, nil
	}
	defer func() {
		if c.condemned == "" {
			p.keepOrClose(c)
		} else {
			p.discard(c, c.condemned)
		}
	}()
	if c.condemned = c.verdict(clock.Now()); c.condemned != "" {
		return false, nil
	}
	c.guard.Begin(clock.Now(), 0, guard.Cancelling)
	err = f(c)
	c.guard.End()
	if err != nil && c.verdict(clock.Now()) != "" {
		c.condemned = "invalid"
		return false, nil // it was dead, or became so
	}
	return true, err // and c.proven is what it was: the next caller's ping is due when it is due
}

// facts are what the preflight asks for.
type facts struct {
	user       string
	superuser  bool
	privileges []string // others that a service has no use for
	encrypted  bool
	pooled     bool   // by a pooler between us and the server: its limits are others
	room       int    // for how many connections of ours, those that it has included
	limits     string // where that comes from
	version    int    // server_version_num
	clock      time.Duration
	settings   map[string]setting
	collations []collation
}

// setting is what is in force of one of our server settings.
type setting struct{ value, source string }

// collation is a collation, or several, whose version has changed since indexes were made by it.
type collation struct {
	database  bool   // it is the database's own; else one that indexes name
	names     string // the database's name, or those of the collations, quoted
	recorded  string // the version that the catalogue has
	available string // the version that the server's library has
}

const factsQuery = `select r.rolname, r.rolsuper, array_to_string(array_remove(array[
  case when r.rolcreaterole then 'CREATEROLE' end, case when r.rolcreatedb then 'CREATEDB' end,
  case when r.rolreplication then 'REPLICATION' end, case when r.rolbypassrls then 'BYPASSRLS' end], null), ', '),
 current_setting('max_connections')::int - coalesce(current_setting('superuser_reserved_connections', true)::int, 0)
  - coalesce(current_setting('reserved_connections', true)::int, 0),
 (select sum(numbackends) from pg_stat_database), r.rolconnlimit, d.datconnlimit,
 (select sum(numbackends) from pg_stat_database where datname = current_database()),
 current_setting('server_version_num'), extract(epoch from clock_timestamp()), pg_backend_pid()
 from pg_roles r, pg_database d where r.rolname = current_user and d.datname = current_database()`

const settingsQuery = `select name, setting || coalesce(unit, ''), source from pg_settings`

// databaseCollationQuery and namedCollationsQuery find the collations of another version than the catalogue has. Of the named
// ones only those count that an index is sorted by: there are hundreds, and most are used by nobody.
const (
	databaseCollationQuery = `select true, quote_ident(datname), datcollversion, pg_database_collation_actual_version(oid)
 from pg_database where datname = current_database()
 and datcollversion <> coalesce(pg_database_collation_actual_version(oid), '')`

	namedCollationsQuery = `select false, string_agg(oid::regcollation::text, ', ' order by oid::regcollation::text),
 min(collversion), min(pg_collation_actual_version(oid))
 from pg_collation where oid in (select unnest(indcollation) from pg_index)
 and collversion <> coalesce(pg_collation_actual_version(oid), '') having count(*) > 0`
)

// changedCollations asks for the collations whose version has changed. A server that is no PostgreSQL may not know the
// functions, which is no reason to say nothing of the rest. PostgreSQL 14 keeps no version for the database's own.
func (c *conn) changedCollations(ctx context.Context, version int) (changed []collation, err error) {
	query := namedCollationsQuery
	if version >= 150000 {
		query = databaseCollationQuery + "; " + query
	}
	results, err := c.pg.Exec(ctx, query).ReadAll()
	if pgerror.From(err) != nil {
		return nil, nil
	}
	for _, result := range results {
		for _, row := range result.Rows {
			changed = append(changed, collation{string(row[0]) == "t", string(row[1]), string(row[2]), string(row[3])})
		}
	}
	return changed, err
}

// facts asks the server, by the protocol that every pooler knows.
func (c *conn) facts(ctx context.Context) (f facts, err error) {
	start := time.Now()
	results, err := c.pg.Exec(ctx, factsQuery+"; "+settingsQuery).ReadAll()
	if err != nil {
		return f, err
	}
	if len(results) != 2 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 11 {
		return f, errors.New("pgprod: preflight: the role or the database isn't in the catalogue")
	}
	row := results[0].Rows[0]
	number := func(i int) int { n, _ := strconv.Atoi(string(row[i])); return n }
	f.user, f.superuser = string(row[0]), string(row[1]) == "t"
	if list := string(row[2]); list != "" {
		f.privileges = strings.Split(list, ", ")
	}
	f.roomIn(number(3), number(4), number(5), number(6), number(7), c.pool.queue.Stats().Open)
	f.version = number(8)
	epoch, _ := strconv.ParseFloat(string(row[9]), 64)
	f.clock = time.Duration((epoch - float64(start.UnixNano())/1e9) * 1e9)
	f.pooled = string(row[10]) != strconv.FormatUint(uint64(c.pg.PID()), 10)
	_, f.encrypted = c.pg.Conn().(*tls.Conn)
	f.settings = map[string]setting{}
	for _, row := range results[1].Rows {
		if len(row) != 3 {
			return f, errors.New("pgprod: preflight: the server's reply makes no sense")
		}
		f.settings[strings.ToLower(string(row[0]))] = setting{string(row[1]), string(row[2])}
	}
	f.collations, err = c.changedCollations(ctx, f.version)
	return f, err
}

// roomIn sets the room: what the narrowest limit leaves beside the connections of others.
func (f *facts) roomIn(server, backends, role, database, inDatabase, ours int) {
	f.room = server - max(0, backends-ours)
	f.limits = fmt.Sprintf("max_connections less what is reserved is %d, others have %d", server, max(0, backends-ours))
	if left := database - max(0, inDatabase-ours); database >= 0 && left < f.room {
		f.room, f.limits = left, fmt.Sprintf("the database's CONNECTION LIMIT is %d", database)
	}
	if role >= 0 && role < f.room {
		f.room, f.limits = role, fmt.Sprintf("the role's CONNECTION LIMIT is %d", role)
	}
}

// judge says what is wrong as of now, one warning each.
func (p *Pool) judge(f facts, now time.Time) (warnings []string) {
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	switch {
	case f.superuser:
		warn("the role %s is a superuser, for whom no rule holds: give the service a role with rights on its own tables only", f.user)
	case len(f.privileges) > 0:
		warn("the role %s has %s, which a service has no use for: take it away with ALTER ROLE", f.user, strings.Join(f.privileges, ", "))
	}
	if !f.encrypted && !settings.IsLocal(p.cfg.Conn.Host) && len(p.cfg.Warnings) == 0 {
		warn("the connection to %s is not encrypted: sslmode should be verify-full, or at least require", p.cfg.Conn.Host)
	}
	if p.cfg.PasswordInDSN {
		warn("the password stands in the DSN, which gets into logs and process lists: use password_file or DB_PASSWORD")
	}
	if limit := p.limit(); limit > int64(f.room) && !f.pooled {
		warn("pool_size + max_overflow is %d, but the server has room for %d connections (%s): lower them, or raise the limit",
			limit, f.room, f.limits)
	}
	warnings = append(warnings, p.judgeSettings(f)...)
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

// warning says what has changed, what may come of it, and what to do.
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

// judgeSettings finds the server settings of ours that aren't in force.
func (p *Pool) judgeSettings(f facts) (warnings []string) {
	ours := maps.Clone(p.cfg.Conn.RuntimeParams)
	for _, s := range p.cfg.Set {
		ours[s.Name] = s.Value
	}
	for _, name := range slices.Sorted(maps.Keys(ours)) {
		s, known := f.settings[strings.ToLower(name)]
		switch {
		case !known: // an extension's, or options, which stands for others
		case s.source != "client" && s.source != "session":
			warnings = append(warnings, fmt.Sprintf("the server setting %s=%s is not in force, the server has %s from %s: "+
				"drop it with server_settings=%s=, or behind a pooler try server_settings_mode=set",
				name, ours[name], s.value, s.source, name))
		}
	}
	return warnings
}

// lastFixes is when PostgreSQL's major versions get their last fixes, by https://www.postgresql.org/support/versioning/.
var lastFixes = map[int]string{
	14: "2026-11-12", 15: "2027-11-11", 16: "2028-11-09", 17: "2029-11-08", 18: "2030-11-14",
	19: "2031-11-13", // by the rule, five years after its release: the second Thursday of November
}

// outOfSupport reports whether a version is, and since when.
func outOfSupport(version int, now time.Time) (since string, out bool) {
	major := version / 10000
	if major < 14 {
		return "2025-11-13 or earlier", true
	}
	since = lastFixes[major]
	end, err := time.Parse(time.DateOnly, since)
	return since, err == nil && now.After(end)
}
