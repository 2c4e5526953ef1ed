package oracle

import (
	"context"
	"database/sql"
	"slices"

	"github.com/jackc/pgx/v5"
)

// nextBorrower is the name of the facts that those see.
const nextBorrower = "next borrower"

// lookAsNextBorrower compares what those find who get the connections that have come back, if something may have been left in
// their sessions. Afterwards pgx's idle connections are closed: what they keep pgprod's have lost.
func (o *oracle) lookAsNextBorrower(p *pair) bool {
	if p.theirs.closed || !p.theirs.left && !p.ours.left {
		return true
	}
	for i, w := range []*world{p.theirs, p.ours} {
		w.side.settle()
		for _, line := range w.idleSessions() {
			p.saw[i].note(nextBorrower, "%s", line)
		}
		if w.db.Stats().InUse == 0 {
			w.left = false
		}
	}
	p.theirs.sweep()
	if p.same() {
		return true
	}
	for _, d := range differences {
		if d.excuses(p) {
			o.met[d.name]++
		}
	}
	return p.same()
}

// sessionState is what a borrower may find of an earlier one. What the drivers have prepared is theirs, and stays.
const sessionState = `select format('search_path %s, name %s, timezone %s, tenant %s, rider %s, read-only %s, role %s, temporary tables %s, locks %s, prepared %s, cursors %s, listens %s',
	current_setting('search_path'), current_setting('application_name'), current_setting('timezone'), coalesce(nullif(current_setting('app.tenant', true), ''), '-'),
	coalesce(nullif(current_setting('app.rider', true), ''), '-'),
	current_setting('default_transaction_read_only'), current_setting('role'),
	(select count(*) from pg_class where relnamespace = pg_my_temp_schema() and relkind = 'r'),
	(select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'),
	(select coalesce(string_agg(name, ' '), '-') from pg_prepared_statements where name !~ '^(stmt|pgprod_)'),
	(select coalesce(string_agg(name, ' '), '-') from pg_cursors),
	(select coalesce(string_agg(c, ' '), '-') from pg_listening_channels() c))`

const clean = `search_path "$user", public, name ` + applicationName + `, timezone UTC, tenant -, rider -, read-only off, role none, temporary tables 0, locks 0, prepared -, cursors -, listens -`

// idleSessions is what the next borrowers find that isn't as in a new session.
func (w *world) idleSessions() (found []string) {
	ctx := context.Background()
	_, idle := w.side.count(w.db)
	var conns []*sql.Conn
	for range idle {
		if w.full() {
			break
		}
		conn, err := w.db.Conn(ctx)
		if err != nil {
			found = append(found, describe(err))
			break
		}
		conns = append(conns, conn)
		var state string
		if err := conn.QueryRowContext(ctx, sessionState, pgx.QueryExecModeSimpleProtocol).Scan(&state); err != nil {
			state = describe(err)
		}
		if state != clean {
			found = append(found, state)
			_, _ = conn.ExecContext(ctx, "discard all") // which pgprod sees, so that nobody gets it any more
		}
	}
	for _, conn := range conns {
		_ = conn.Close()
	}
	slices.Sort(found)
	return slices.Compact(found)
}
