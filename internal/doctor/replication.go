package doctor

import (
	"context"
	"strings"

	"github.com/pgprod/pgprod/internal/diagnose"
)

// standbysQuery asks a primary for its standbys, each with how it is confirmed and how many bytes it is behind. The latter
// is null for roles that may not see it.
const standbysQuery = `select coalesce(nullif(application_name, ''), 'a standby'), coalesce(state, ''),
 coalesce(sync_state, ''), coalesce(pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 'an unknown amount')
 from pg_stat_replication order by 1 limit 20`

// behindQuery asks a standby how far it is behind. Its delay is that of the last transaction that it has replayed, which is
// old also when nobody writes, so that it counts only if there is something to replay.
const behindQuery = `select case when pg_last_wal_receive_lsn() is distinct from pg_last_wal_replay_lsn()
 then coalesce(round(extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp()))::text, '') end,
 coalesce((select status from pg_stat_wal_receiver), '')`

// replication looks at the standbys of a primary, and how far a standby is behind.
func (p place) replication(ctx context.Context, s *session, f diagnose.Facts) {
	if s.kind.InRecovery {
		p.behind(ctx, s)
		return
	}
	p.standbys(ctx, s, f.Settings["synchronous_standby_names"].Value)
}

// standbys looks at the standbys of a primary. names is synchronous_standby_names: without such a standby no COMMIT returns.
func (p place) standbys(ctx context.Context, s *session, names string) {
	const check = "replication"
	rows, err := s.ask(ctx, standbysQuery)
	if err != nil {
		p.skip(check, "this server doesn't tell of its standbys")
		return
	}
	var all []string
	confirmed := false
	for _, row := range rows {
		state := string(row[2])
		confirmed = confirmed || state == "sync" || state == "quorum" || state == ""
		all = append(all, string(row[0])+" "+string(row[1])+" "+state+", "+string(row[3])+" behind")
	}
	switch {
	case names != "" && !confirmed:
		p.warn(check, "bring that standby up, or take it out of synchronous_standby_names",
			"synchronous_standby_names is %q, but no such standby is connected: COMMIT waits for it, for ever", names)
	case len(all) == 0:
		p.ok(check, "there is no standby")
	default:
		p.ok(check, "%s", strings.Join(all, "; "))
	}
}

// behind looks at how far a standby is behind.
func (p place) behind(ctx context.Context, s *session) {
	const check = "replication"
	rows, err := s.ask(ctx, behindQuery)
	if err != nil || len(rows) != 1 || len(rows[0]) != 2 {
		p.skip(check, "this server doesn't tell how far it is behind")
		return
	}
	delay, receiver := string(rows[0][0]), string(rows[0][1])
	switch {
	case delay != "":
		p.warn(check, "look at its load and at the network; read from it only what may be that old",
			"the standby is %s s behind", delay)
	case receiver == "":
		p.warn(check, "is its primary up, and can it be reached from there?",
			"the standby isn't connected to a primary: it doesn't follow any more")
	default:
		p.ok(check, "the standby has replayed all that it has received (%s)", receiver)
	}
}
