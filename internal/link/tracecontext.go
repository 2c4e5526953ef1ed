package link

import (
	"context"
	"strings"

	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/settings"
	"github.com/pgprod/pgprod/internal/sqlsummary"
)

const applicationName = "application_name"

// tracesByName reports whether a statement's trace context is to be its application_name.
func (c *Conn) tracesByName() bool { return c.dialer.cfg.TraceContext == settings.TraceByName }

// wantsTrace reports whether a statement with this context will probably be sampled, so that its trace context is to be its
// application_name, or whether that of an earlier one is to go. It is asked where a statement has to be sent in another way
// for that. Whether it is sampled is known for certain only when its span has begun.
func (c *Conn) wantsTrace(ctx context.Context) bool {
	return c.tracesByName() && (c.session.local.traced || c.target.MaySample(ctx))
}

// boardTrace is called by the tracer when a statement's span has begun, before pgx sends anything. If the statement is
// sampled, and sent in a way in which it can have riders, its trace context becomes application_name, until the end of the
// statement. In a transaction that would last until its end, so that each statement in it sets its own; one that isn't
// sampled goes back to the name of the connection.
func (c *Conn) boardTrace(op *instruments.Operation, sql string) {
	if !c.tracesByName() || !c.ride.carries || c.pg.TxStatus() == 'E' {
		return
	}
	parent := op.TraceParent()
	switch {
	case parent == "" && !c.session.local.traced, c.setsName(), sqlsummary.StandsAlone(sql), sqlsummary.ComputesNothing(sql), shows(sql):
		return
	}
	name := setting{applicationName, []byte(parent)}
	if parent == "" {
		name = initial(applicationName, c.kept)
	}
	r := &c.ride
	r.trace = c.settingRider([]setting{name}, !r.inTx)
	c.tap.Board(r.trace)
}

// shows reports whether a statement is a SHOW. It is over at once, and is no query: a transaction whose isolation level is set
// after it must not have one by then.
func shows(sql string) bool {
	first, _ := sqlsummary.FirstWords(sql)
	return strings.EqualFold(first, "show")
}

// setsName reports whether the settings of a context set application_name, which the application wants then.
func (c *Conn) setsName() bool {
	holding := c.session.local.set
	if c.ride.set != nil {
		holding = c.ride.wanted
	}
	if holding == nil {
		return false
	}
	_, sets := holding.values[applicationName]
	return sets
}
