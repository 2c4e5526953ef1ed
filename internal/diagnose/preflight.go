package diagnose

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/pgerror"
)

// A Preflight looks once, when the first connection has been made, at what the server thinks of us. It is safe for
// concurrent use.
type Preflight struct {
	Pool
	once sync.Once
	slow int // how often it took too long; only the timer's calls use it, which come one after the other

	mu       sync.Mutex  // guards what follows; nothing else is locked under it
	timer    *time.Timer // begins it; nil: there is none
	closed   bool
	warnings []string
}

// NewPreflight returns a preflight, which does nothing before Plan is called.
func NewPreflight(p Pool) *Preflight { return &Preflight{Pool: p} }

// Warnings are what the preflight has found.
func (f *Preflight) Warnings() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.warnings)
}

// found keeps the warnings for checks of the pool's health.
func (f *Preflight) found(warnings []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.warnings = warnings
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

// Plan is called for each connection that was made; the first plans the preflight.
func (f *Preflight) Plan() {
	if f.Settings().Preflight {
		f.once.Do(func() { f.runAfter(preflightDelay) })
	}
}

// Close is called when the pool is closed. What has begun is among the pool's tasks, and ends with its life.
func (f *Preflight) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.timer != nil {
		f.timer.Stop()
	}
}

// runAfter has it run after a pause, unless the pool is closed.
func (f *Preflight) runAfter(pause time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.timer = time.AfterFunc(pause, func() { f.Run(f.ask) })
	}
}

// ask asks over a connection of the pool that lies idle, so that nobody waits for it, and none is made for it. If there is
// none it comes again.
func (f *Preflight) ask() {
	ctx, cancel := context.WithTimeout(f.Life(), preflightTimeout)
	defer cancel()
	var found facts
	asked, err := f.WithIdle(func(c *link.Conn) (err error) {
		found, err = askFacts(ctx, c, f.Figures().Open)
		return err
	})
	switch {
	case f.Life().Err() != nil: // the pool was closed meanwhile, which says nothing of the server
	case !asked:
		f.runAfter(preflightDelay)
	case err != nil && ctx.Err() != nil && f.slow < preflightRepeats:
		f.slow++
		f.runAfter(preflightDelay << f.slow)
	case err != nil: // some views are closed to this role, or it is no PostgreSQL: not worth another connection
		f.Diary().PreflightFailed(ctx, instruments.Describe(err, ""))
	default:
		warnings := judge(f.Settings(), found, time.Now())
		f.found(warnings)
		f.Diary().Preflight(ctx, warnings)
	}
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
func changedCollations(ctx context.Context, c *link.Conn, version int) (changed []collation, err error) {
	query := namedCollationsQuery
	if version >= 150000 {
		query = databaseCollationQuery + "; " + query
	}
	results, err := c.Ask(ctx, query, guard.Cancelling)
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

// askFacts asks the server. ours is how many connections the pool has.
func askFacts(ctx context.Context, c *link.Conn, ours int) (f facts, err error) {
	start := time.Now()
	results, err := c.Ask(ctx, factsQuery+"; "+settingsQuery, guard.Cancelling)
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
	f.roomIn(number(3), number(4), number(5), number(6), number(7), ours)
	f.version = number(8)
	epoch, _ := strconv.ParseFloat(string(row[9]), 64)
	f.clock = time.Duration((epoch - float64(start.UnixNano())/1e9) * 1e9)
	f.pooled = string(row[10]) != strconv.FormatUint(uint64(c.PID()), 10)
	f.encrypted = c.Encrypted()
	f.settings = map[string]setting{}
	for _, row := range results[1].Rows {
		if len(row) != 3 {
			return f, errors.New("pgprod: preflight: the server's reply makes no sense")
		}
		f.settings[strings.ToLower(string(row[0]))] = setting{string(row[1]), string(row[2])}
	}
	f.collations, err = changedCollations(ctx, c, f.version)
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
