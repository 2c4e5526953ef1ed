package diagnose

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/pgerror"
)

// Facts are the answers to the preflight's questions.
type Facts struct {
	User       string             // the role
	Superuser  bool               // the role is one
	Privileges []string           // attributes of the role that a service has no use for, such as CREATEDB
	Encrypted  bool               // the connection uses TLS
	Pooled     bool               // there is a pooler between us and the server, which has limits of its own
	Server     int                // max_connections less what is reserved
	Room       int                // for how many connections of ours the server has room, those that we have included
	Limits     string             // which limit that comes from, in words
	Version    int                // server_version_num
	Clock      time.Duration      // how far the server's clock is ahead of ours
	Settings   map[string]Setting // all settings of the session, by their name in lower case
	Collations []Collation        // those whose version has changed
	Dropped    []string           // the server settings that are not asked for, because a pooler has refused them
}

// limit is what Preflight.Limit returns.
func (f *Facts) limit() int64 {
	if f.Pooled {
		return 0
	}
	return int64(f.Server)
}

// A Setting is the value of a server setting in the session, and pg_settings' word for where it comes from.
type Setting struct{ Value, Source string }

// A Collation is one or several whose version has changed since indexes were sorted by them.
type Collation struct {
	database  bool   // it is the database's own collation; otherwise those that indexes name
	names     string // the database's name, or those of the collations, quoted
	recorded  string // the version that the catalogue has
	available string // the version that the server's library has
}

// factsQuery asks for the role and its attributes, the limits on connections and how many there are, the version, the
// server's clock, and the process that answers. AskFacts reads its one row by position.
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
func changedCollations(ctx context.Context, c *link.Conn, version int) (changed []Collation, err error) {
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
			changed = append(changed, Collation{string(row[0]) == "t", string(row[1]), string(row[2]), string(row[3])})
		}
	}
	return changed, err
}

// AskFacts asks the server all questions of the preflight over one connection. ours is how many connections the pool has.
func AskFacts(ctx context.Context, c *link.Conn, ours int) (f Facts, err error) {
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
	f.User, f.Superuser = string(row[0]), string(row[1]) == "t"
	if list := string(row[2]); list != "" {
		f.Privileges = strings.Split(list, ", ")
	}
	f.roomIn(number(3), number(4), number(5), number(6), number(7), ours)
	f.Version = number(8)
	epoch, _ := strconv.ParseFloat(string(row[9]), 64)
	f.Clock = time.Duration((epoch - float64(start.UnixNano())/1e9) * 1e9)
	f.Pooled = string(row[10]) != strconv.FormatUint(uint64(c.PID()), 10)
	f.Encrypted = c.Encrypted()
	f.Settings = map[string]Setting{}
	for _, row := range results[1].Rows {
		if len(row) != 3 {
			return f, errors.New("pgprod: preflight: the server's reply makes no sense")
		}
		f.Settings[strings.ToLower(string(row[0]))] = Setting{string(row[1]), string(row[2])}
	}
	f.Collations, err = changedCollations(ctx, c, f.Version)
	return f, err
}

// roomIn sets Server, Room and Limits: how many connections the narrowest limit leaves to us beside those of others. server,
// role and database are the limits (-1: none), backends and inDatabase count the connections that exist, and ours is how many
// are ours.
func (f *Facts) roomIn(server, backends, role, database, inDatabase, ours int) {
	f.Server, f.Room = server, server-max(0, backends-ours)
	f.Limits = fmt.Sprintf("max_connections less what is reserved is %d, others have %d", server, max(0, backends-ours))
	if left := database - max(0, inDatabase-ours); database >= 0 && left < f.Room {
		f.Room, f.Limits = left, fmt.Sprintf("the database's CONNECTION LIMIT is %d", database)
	}
	if role >= 0 && role < f.Room {
		f.Room, f.Limits = role, fmt.Sprintf("the role's CONNECTION LIMIT is %d", role)
	}
}
