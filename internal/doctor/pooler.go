package doctor

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgprod/pgprod/internal/diagnose"
	"github.com/pgprod/pgprod/internal/link"
)

// pooler says whether there is a pooler between the program and the server, tries what works behind it, and says which
// settings fit. A pooler gives its clients keys for cancel requests of its own, whose process is not the server's.
func (p place) pooler(ctx context.Context, s *session, f diagnose.Facts) {
	b, err := p.connect(ctx, s.cfg, true)
	if err != nil {
		p.skip("pooler", "there was no second connection to try it with: %s", link.SafeText(err))
		return
	}
	defer b.close()
	t := &trials{p, s, b}
	shared, err := t.sharing(ctx)
	switch {
	case errors.Is(err, errNoTransactions):
		p.misconfigured()
		p.fail("pooler", "set pool_mode=transaction or session", "%s, in statement pooling: there are no transactions",
			p.product(ctx, s))
		return
	case err != nil:
		p.skip("pooler", "what works could not be tried: %s", link.SafeText(err))
		return
	case !f.Pooled && !shared:
		p.ok("pooler", "none: the server's own process answers")
		p.cancelRequests(ctx, t)
		return
	}
	p.behindPooler(ctx, t, shared)
}

// behindPooler tries what works behind a pooler. shared says that it is in transaction pooling.
func (p place) behindPooler(ctx context.Context, t *trials, shared bool) {
	p.ok("pooler", "%s, in %s pooling", p.product(ctx, t.a), map[bool]string{true: "transaction", false: "session"}[shared])
	prepared := t.prepared(ctx, shared)
	p.tell("prepared statements", prepared, "a transaction can execute what an earlier one has prepared",
		"what one transaction has prepared is not there in the next",
		"set max_prepared_statements in PgBouncer 1.21 or later, or default_query_exec_mode in the DSN to exec, "+
			"cache_describe or simple_protocol")
	p.tell("set local", t.setLocal(ctx), "a setting of a transaction holds until its end",
		"a setting of a transaction doesn't hold until its end", "don't rely on ContextWithSettings")
	if shared {
		p.warn("session state", "use ContextWithSettings, pg_advisory_xact_lock, and for LISTEN a DSN without the pooler",
			"SET, LISTEN, advisory locks of the session and temporary tables don't last beyond a transaction (not tried: it would "+
				"stay on a connection that others get)")
	} else {
		p.sessionState(ctx, t)
	}
	p.fit(t.a, shared, prepared)
	p.cancelRequests(ctx, t)
}

// sessionState tries what a session keeps.
func (p place) sessionState(ctx context.Context, t *trials) {
	p.tell("session settings", t.setSession(ctx), "a session keeps what SET sets", "a session doesn't keep what SET sets",
		"use ContextWithSettings")
	p.tell("listen", t.listen(ctx), "notifications arrive", "notifications don't arrive",
		"use a DSN without the pooler for LISTEN")
	p.tell("advisory locks", t.lock(ctx), "those of a session hold", "those of a session don't hold",
		"use pg_advisory_xact_lock")
}

// cancelRequests tries whether a statement can be ended. It is the last trial.
func (p place) cancelRequests(ctx context.Context, t *trials) {
	p.tell("cancel requests", t.cancel(ctx), "a statement can be ended by them",
		"a statement doesn't end by them: command_timeout and the caller's context close its connection, and it may go on at "+
			"the server",
		"let further connections through to this address: a cancel request is one")
}

// tell says what came of a trial.
func (p place) tell(check string, o outcome, well, bad, advice string) {
	switch o {
	case works:
		p.ok(check, "%s", well)
	case fails:
		p.warn(check, advice, "%s", bad)
	default:
		p.skip(check, "the trial told nothing")
	}
}

// A misfit is a setting that doesn't fit a pooler.
type misfit struct {
	what, advice string
	breaks       bool // nothing works with it, or not for long
}

// fit says whether the settings fit the pooler, and which do.
func (p place) fit(used *session, shared bool, prepared outcome) {
	const check = "pooler settings"
	var what, advice []string
	breaks := false
	for _, m := range p.misfits(used, shared, prepared) {
		what, advice, breaks = append(what, m.what), append(advice, m.advice), breaks || m.breaks
	}
	switch {
	case len(what) == 0:
		p.ok(check, "server_settings_mode=%s and default_query_exec_mode=%s fit", p.cfg.ServerSettingsMode, p.execMode())
	case breaks:
		p.misconfigured()
		p.fail(check, strings.Join(advice, ", and "), "%s", strings.Join(what, "; "))
	default:
		p.warn(check, strings.Join(advice, ", and "), "%s", strings.Join(what, "; "))
	}
}

// misfits returns the settings that don't fit.
func (p place) misfits(used *session, shared bool, prepared outcome) (all []misfit) {
	drop := dropping(serverSettings(p.cfg))
	const taken = "it doesn't take them as startup parameters: "
	switch refused := strings.Join(used.refused, ", "); {
	case refused != "" && shared:
		all = append(all, misfit{taken + refused, "leave them out", true})
	case refused != "":
		all = append(all, misfit{taken + refused, "server_settings_mode=set, or leave them out", true})
	case shared && len(p.cfg.Set) > 0:
		all = append(all, misfit{"server_settings_mode=set changes connections that others get as well", drop, false})
	}
	switch mode := p.cfg.Conn.DefaultQueryExecMode; {
	case !shared:
	case mode == pgx.QueryExecModeDescribeExec, mode == pgx.QueryExecModeCacheStatement && prepared == fails:
		all = append(all, misfit{"default_query_exec_mode=" + p.execMode() + " needs what one transaction leaves for the next",
			"default_query_exec_mode=exec in the DSN", true})
	}
	return all
}

// execMode is default_query_exec_mode as it stands in a DSN.
func (p place) execMode() string {
	return strings.ReplaceAll(p.cfg.Conn.DefaultQueryExecMode.String(), " ", "_")
}

// product asks a pooler what it is, in the way in which PgBouncer and its kin answer: by SHOW VERSION in the database
// pgbouncer, for those who may.
func (p place) product(ctx context.Context, s *session) string {
	const unknown = "there is one, which doesn't tell what it is"
	admin := s.cfg.WithoutServerSettings(serverSettings(s.cfg)...)
	admin.Conn.Database = "pgbouncer"
	c, err := p.dial(ctx, admin, true)
	if err != nil {
		return unknown
	}
	defer c.close()
	version, err := c.value(ctx, "show version")
	if err != nil {
		return unknown
	}
	return version
}
