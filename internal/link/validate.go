package link

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/hosts"
)

// validate has pgx judge servers as this package does, and claim the dial before anything is done with the connection. cc has the
// functions of a configuration that was given in code, as keepGiven has prepared them.
func (d *dialling) validate(cc *pgx.ConnConfig) {
	check, setUp := cc.ValidateConnect, cc.AfterConnect
	best := false
	cc.ValidateConnect = func(ctx context.Context, pg *pgconn.PgConn) error {
		j := d.judge(ctx, pg, check)
		best = j.fit != hosts.Second
		if j.known {
			d.leg.met = true
			d.leg.lane.meets(j.role, time.Duration(clock.Now()-d.began), j.err != nil)
		}
		if j.err != nil {
			d.conn.leave(pg)
		}
		return j.err
	}
	cc.AfterConnect = func(ctx context.Context, pg *pgconn.PgConn) error {
		if err := d.race.claim(ctx, d.leg, best); err != nil {
			d.conn.leave(pg)
			return err
		}
		if setUp == nil {
			return nil
		}
		return setUp(d.race.ctx, pg)
	}
}

// A judgement is what is to be thought of a server that has accepted a login.
type judgement struct {
	known bool       // the server has answered
	role  hosts.Role // NoRole: nobody has asked
	fit   hosts.Fit
	err   error // why it isn't what is wanted, or has not answered
}

// judge looks whether a server is what is wanted: by what it has reported at the login, as servers do from version 14 on, or else
// by a question. check is what pgx would do.
func (d *dialling) judge(ctx context.Context, pg *pgconn.PgConn, check pgconn.ValidateConnectFunc) judgement {
	wanted := d.hosts.Wanted()
	switch {
	case check == nil, d.check != nil && d.check.Anywhere:
		return judgement{true, d.reportedRole(pg), hosts.Fits, nil}
	case wanted == "any": // the application's own function
		return judged(pg, d.reportedRole(pg), check(ctx, pg))
	}
	role, err := d.roleOf(ctx, pg)
	role = d.leg.lane.host.As(role)
	switch {
	case err != nil && pg.IsClosed():
		return judgement{false, role, hosts.Unfit, err}
	case role == hosts.NoRole:
		err := check(ctx, pg)
		return judged(pg, roleBy(wanted, err), err)
	}
	fit := wanted.Fit(role)
	switch {
	case fit == hosts.Unfit && role == hosts.Deposed:
		return judgement{true, role, fit, hosts.ErrDeposed}
	case fit == hosts.Unfit:
		return judgement{true, role, fit, unfit[wanted]}
	}
	return judgement{true, role, fit, nil}
}

// roleOf returns the role of a server that reports it, NoRole for others. A pooler may report what one of its servers has said long
// ago, or what another of its servers is than that which executes the statements (pgpool-II): that nobody is in between must have
// been seen once, or the server is asked. Before a server is refused it always is, since pgpool-II with one server can't be seen.
func (d *dialling) roleOf(ctx context.Context, pg *pgconn.PgConn) (hosts.Role, error) {
	role, direct := reportedRole(pg), d.paths.isDirect(d.leg.lane.host, d.address)
	if role == hosts.NoRole || direct && d.hosts.Wanted().Fit(role) != hosts.Unfit {
		return role, nil
	}
	const question = "select pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only'), pg_catalog.pg_backend_pid()"
	results, err := pg.Exec(ctx, question).ReadAll()
	if err != nil || len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 3 {
		return hosts.NoRole, err
	}
	row := results[0].Rows[0]
	direct = string(row[2]) == strconv.FormatUint(uint64(pg.PID()), 10) // a pooler makes up the pid that a client gets
	d.paths.isNowDirect(d.leg.lane.host, d.address, direct)
	return hosts.RoleOf(string(row[0]) == "t", string(row[1]) == "on"), nil
}

// reportedRole returns the role that a server has reported, NoRole if it isn't to be believed.
func (d *dialling) reportedRole(pg *pgconn.PgConn) hosts.Role {
	if !d.believes() {
		return hosts.NoRole
	}
	return reportedRole(pg)
}

// believes reports whether a role that is reported on the connection is to be believed. Where any will do, it always is.
func (d *dialling) believes() bool {
	return d.hosts.Wanted() == "any" || d.paths.isDirect(d.leg.lane.host, d.address)
}

// judged is the judgement of a function of pgx's kind, which has returned err.
func judged(pg *pgconn.PgConn, role hosts.Role, err error) judgement {
	_, second := errors.AsType[*pgconn.NotPreferredError](err)
	switch {
	case err == nil:
		return judgement{true, role, hosts.Fits, nil}
	case second:
		return judgement{true, role, hosts.Second, nil}
	}
	return judgement{!pg.IsClosed(), role, hosts.Unfit, err}
}

// reportedRole returns the role that a server, or a pooler, has last reported on a connection, NoRole if it doesn't do so.
func reportedRole(pg *pgconn.PgConn) hosts.Role {
	inRecovery, readOnly := pg.ParameterStatus("in_hot_standby"), pg.ParameterStatus("default_transaction_read_only")
	if inRecovery == "" || readOnly == "" {
		return hosts.NoRole
	}
	return hosts.RoleOf(inRecovery == "on", readOnly == "on")
}

// unfit has pgx's errors about a server that isn't what is wanted.
var unfit = map[hosts.Wanted]error{
	"read-write": pgconn.ErrReadOnlyConnection,
	"read-only":  pgconn.ErrReadWriteConnection,
	"primary":    pgconn.ErrStandbyConnection,
	"standby":    pgconn.ErrPrimaryConnection,
}

// roleBy returns the role of a server as far as pgx's function for what is wanted shows it, which has returned err.
func roleBy(wanted hosts.Wanted, err error) hosts.Role {
	switch {
	case err == nil:
		return map[hosts.Wanted]hosts.Role{
			"read-write": hosts.Primary, "primary": hosts.Primary, "read-only": hosts.ReadOnly,
			"standby": hosts.Standby, "prefer-standby": hosts.Standby,
		}[wanted]
	case errors.Is(err, pgconn.ErrReadOnlyConnection):
		return hosts.ReadOnly
	case errors.Is(err, pgconn.ErrStandbyConnection):
		return hosts.Standby
	case errors.Is(err, pgconn.ErrPrimaryConnection), errors.Is(err, pgconn.ErrReadWriteConnection):
		return hosts.Primary
	}
	return hosts.NoRole
}

// leave says goodbye to a server on a connection that isn't used.
func (c *Conn) leave(pg *pgconn.PgConn) {
	c.guard.Stop()
	_ = pg.Conn().SetDeadline(time.Now().Add(leaveTimeout))
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	_ = pg.Close(ctx)
}

// leaveTimeout is how long a goodbye may take.
const leaveTimeout = time.Second
