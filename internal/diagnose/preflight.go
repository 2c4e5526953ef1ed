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

// A Preflight looks once, soon after the pool's first connection was made, for what is wrong with the server, the role or
// their settings. It is safe for concurrent use.
type Preflight struct {
	Pool
	once sync.Once // the first call of Plan
	slow int       // how often the questions took too long; used by ask only, whose calls come one after the other

	mu       sync.Mutex  // guards what follows; nothing else is locked under it
	timer    *time.Timer // calls ask; nil before Plan
	closed   bool        // Close was called: the timer is not set any more
	warnings []string    // what was found
}

// NewPreflight returns a preflight for a pool. It does nothing before Plan is called.
func NewPreflight(p Pool) *Preflight { return &Preflight{Pool: p} }

// Warnings returns what the preflight has found, one sentence each. There is nothing before it is over.
func (f *Preflight) Warnings() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.warnings)
}

// found keeps the warnings, for Warnings to return.
func (f *Preflight) found(warnings []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.warnings = warnings
}

const (
	// preflightDelay is the pause between the first connection and the preflight, which leaves the connection to the first
	// statements.
	preflightDelay = 500 * time.Millisecond
	// preflightTimeout is how long the questions may take: a caller may be waiting for the connection.
	preflightTimeout = time.Second
	// preflightRepeats is how often the preflight is repeated after preflightTimeout, with pauses that double.
	preflightRepeats = 5
	// clocksApart is the difference between the server's clock and ours above which there is a warning.
	clocksApart = 2 * time.Second
)

// Plan is called for each connection that was made. The first call sets the timer for the preflight, if the settings want
// one.
func (f *Preflight) Plan() {
	if f.Settings().Preflight {
		f.once.Do(func() { f.runAfter(preflightDelay) })
	}
}

// Close is called when the pool is closed. A preflight that has begun is one of the pool's tasks and ends with the pool's
// life.
func (f *Preflight) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.timer != nil {
		f.timer.Stop()
	}
}

// runAfter sets the timer to call ask after a pause, unless the pool is closed.
func (f *Preflight) runAfter(pause time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.timer = time.AfterFunc(pause, func() { f.Run(f.ask) })
	}
}

// ask is the preflight, as one of the pool's tasks. It asks the server over an idle connection of the pool's, and publishes
// what is wrong. If no connection is idle, it is called again after a pause: no connection is made for it, and no caller
// waits.
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

// facts are the answers to the preflight's questions.
type facts struct {
	user       string             // the role
	superuser  bool               // the role is one
	privileges []string           // attributes of the role that a service has no use for, such as CREATEDB
	encrypted  bool               // the connection uses TLS
	pooled     bool               // there is a pooler between us and the server, which has limits of its own
	room       int                // for how many connections of ours the server has room, those that we have included
	limits     string             // which limit that comes from, in words
	version    int                // server_version_num
	clock      time.Duration      // how far the server's clock is ahead of ours
	settings   map[string]setting // all settings of the session, by their name in lower case
	collations []collation        // those whose version has changed
}

// A setting is the value of a server setting in the session, and pg_settings' word for where it comes from.
type setting struct{ value, source string }

// A collation is one or several whose version has changed since indexes were sorted by them.
type collation struct {
	database  bool   // it is the database's own collation; otherwise those that indexes name
	names     string // the database's name, or those of the collations, quoted
	recorded  string // the version that the catalogue has
	available string // the version that the server's library has
}

// factsQuery asks for the role and its attributes, the limits on connections and how many there are, the version, the
// server's clock, and the process that answers. askFacts reads its one row by position.
const factsQuery = `select r.rolname, r.rolsuper, array_to_string(array_remove(array[
  case when r.rolcreaterole then 'CREATEROLE' end, case when r.rolcreatedb then 'CREATEDB' end,
  case when r.rolreplication then 'REPLICATION' end, case when r.rolbypassrls then 'BYPASSRLS' end], null), ', '),
 current_setting('max_connections')::int - coalesce(current_setting('superuser_reserved_connections', true)::int, 0)
  - coalesce(current_setting('reserved_connections', true)::int, 0),
 (select sum(numbackends) from pg_stat_database), r.rolconnlimit, d.datconnlimit,
 (select sum(numbackends) from pg_stat_database where datname = current_database()),
 current_setting('server_version_num'), extract(epoch from clock_timestamp()), pg_backend_pid()
 from pg_roles r, pg_database d where r.rolname = current_user and d.datname = current_database()`

// settingsQuery asks for all settings of the session and where each comes from.
const settingsQuery = `select name, setting || coalesce(unit, ''), source from pg_settings`

// databaseCollationQuery and namedCollationsQuery find the collations whose version in the catalogue is not that of the
// server's library. Of the hundreds of named collations only those by which an index is sorted are looked at.
const (
	databaseCollationQuery = `select true, quote_ident(datname), datcollversion, pg_database_collation_actual_version(oid)
 from pg_database where datname = current_database()
 and datcollversion <> coalesce(pg_database_collation_actual_version(oid), '')`

	namedCollationsQuery = `select false, string_agg(oid::regcollation::text, ', ' order by oid::regcollation::text),
 min(collversion), min(pg_collation_actual_version(oid))
 from pg_collation where oid in (select unnest(indcollation) from pg_index)
 and collversion <> coalesce(pg_collation_actual_version(oid), '') having count(*) > 0`
)

// changedCollations asks the server for the collations whose version has changed. A server that only speaks PostgreSQL's
// protocol may not know the functions: then there are none, and the rest of the preflight goes on. PostgreSQL 14 has no
// version for the database's own collation.
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

// askFacts asks the server all questions of the preflight over one connection. ours is how many connections the pool has.
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

// roomIn sets room and limits: how many connections the narrowest limit leaves to us beside those of others. server, role
// and database are the limits (-1: none), backends and inDatabase count the connections that exist, and ours is how many are
// ours.
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
