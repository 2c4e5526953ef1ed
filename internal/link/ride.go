package link

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/sqlsummary"
	"github.com/pgprod/pgprod/internal/wire"
)

// A ride is what travels in front of the statement under way, in the same write (see wire.Rider), in this order:
//
//	clean   what an earlier borrower has left in the session is undone, in a transaction of its own
//	begin   the transaction begins
//	once    the key of the transaction is inserted
//	set     the settings of the statement's context are set, until the end of the transaction or of the statement
//	raise   the server's statement_timeout is raised, where the limit of the statement's context is longer
//	trace   application_name becomes the statement's trace context, until the same end
//
// board makes all but the last before pgx is called. The tracer adds the last when the statement's span has begun. getOff notes
// what became of them when pgx has returned.
//
// A rider that this connection needs for the first time is prepared where it is executed, and not in front of all: to parse
// a SELECT takes a snapshot, and BEGIN can't set an isolation level after that.
type ride struct {
	clean, begin, once, set, trace *wire.Rider // nil: doesn't travel

	names   []string     // the statements that the riders prepare
	raise   raise        // how the server's limit is raised
	wanted  *ctxSettings // the settings that hold once set has arrived
	inTx    bool         // a transaction is open, or begins with the riders
	unset   bool         // the statement may have changed what set has set
	carries bool         // the statement is sent in a way in which it can have riders: the tracer may add one
}

// session is what is known of the state of the server's session, as far as statements depend on it or have to undo it.
type session struct {
	prepared map[string]bool // the statements of ours that are prepared, by name
	local    local           // what riders have set for the transaction that is open
	left     sqlsummary.Left // what the present borrower may have left behind
	owed     sqlsummary.Left // what earlier borrowers may have left behind, and what is undone before the next statement runs
	cleaning cleaning        // the rider that undoes it
	raised   string          // what the server's limit is until the session is cleaned, see raise.to; "": as it was made
	begin    keptBegin       // a rider that begins a transaction
}

// keptBegin is a rider that begins a transaction, kept for the next one. It executes a prepared statement, if these are kept.
type keptBegin struct {
	text  string
	rider *wire.Rider // nil: none was made yet
}

// A way is how a statement is sent.
type way uint8

const (
	extended way = iota // by the extended protocol, which has room for riders
	simple              // by the simple protocol, which has none
	raw                 // by a caller that gets pgx's connection
)

// wayOf returns simple if isSimple is true, else extended.
func wayOf(isSimple bool) way {
	if isSimple {
		return simple
	}
	return extended
}

// board is called before a statement is given to pgx, which sends it in this way. It makes the riders that have to travel with
// the statement. Where there is no room for riders, what they would do is sent ahead, in round trips of its own, or refused.
// Unless board returns an error, getOff must follow.
func (c *Conn) board(ctx context.Context, query string, how way) error {
	c.ride, c.attempt.turned, c.raw.lent = ride{inTx: c.inTx(), carries: how == extended}, notTurned, how == raw
	if !c.hasRiders(ctx) {
		return nil
	}
	if err := checkLimit(ctx); err != nil {
		return err
	}
	t := &c.tx
	if t.refused != nil {
		return t.refused
	}
	change, wanted, err := c.settingsFor(ctx, query, how)
	if err != nil {
		return err
	}
	if t.begin != "" {
		if err := c.forgetOutdated(ctx); err != nil {
			return err
		}
	}
	raise := c.raiseFor(ctx, query, how)
	if c.staysRaised(raise) {
		raise.scope, c.session.owed = notRaised, 0
		defer c.owesRaised(raise.to)
	}
	if how != extended {
		return c.goAhead(ctx, change, wanted, raise)
	}
	r := &c.ride
	if c.session.owed != 0 {
		r.clean = c.cleaningRider()
		c.tap.Board(r.clean)
	}
	if t.begin != "" {
		r.begin = c.beginRider(t.begin)
		c.tap.Board(r.begin)
	}
	if t.owesKey {
		r.once = c.onceRider()
		c.tap.Board(r.once)
	}
	if change != nil {
		r.set, r.wanted = c.settingRider(change, !r.inTx), wanted
		c.tap.Board(r.set)
	}
	c.boardRaise(raise)
	return nil
}

// goAhead sends ahead what belongs to a statement of the simple protocol.
func (c *Conn) goAhead(ctx context.Context, change []setting, wanted *ctxSettings, raise raise) error {
	carried := c.attempt.carried // it is the operation of the statement, which comes next, and not of what is sent ahead
	c.attempt.carried = instruments.Operation{}
	defer func() { c.attempt.carried = carried }()
	if c.session.owed != 0 {
		if err := c.Clean(ctx); err != nil {
			if c.pg.IsClosed() && !c.guard.Cut().Happened() {
				c.attempt.turned = elsewhere // nothing of the statement was sent
			}
			return err
		}
	}
	if c.tx.begin != "" {
		if err := c.beginAhead(ctx); err != nil {
			return err
		}
	}
	if c.tx.owesKey {
		c.ride.inTx, c.ride.once = c.inTx(), c.onceRider()
		if err := c.rideAlone(ctx, c.ride.once); err != nil {
			return err
		}
	}
	if change != nil {
		c.ride.inTx, c.ride.set, c.ride.wanted = c.inTx(), c.settingRider(change, false), wanted
		if err := c.rideAlone(ctx, c.ride.set); err != nil {
			return err
		}
	}
	if raise.scope == notRaised {
		return nil
	}
	c.ride.inTx = c.inTx()
	c.boardRaise(raise)
	return c.sendRiders(ctx)
}

// rideAlone sends a rider of the ride's in a round trip of its own, with a statement that does nothing.
func (c *Conn) rideAlone(ctx context.Context, rider *wire.Rider) error {
	c.tap.Board(rider)
	return c.sendRiders(ctx)
}

// sendRiders sends what is boarded, in front of a statement that does nothing.
func (c *Conn) sendRiders(ctx context.Context) error {
	c.ride.carries = false // this round trip is theirs
	c.beginUntraced(ctx)
	defer c.guard.End()
	return c.getOff(c.pg.ExecParams(ctx, "select", nil, nil, nil, nil).Read().Err)
}

// hasRiders reports whether something may have to travel with the next statement.
func (c *Conn) hasRiders(ctx context.Context) bool {
	return c.tx.begin != "" || c.tx.owesKey || c.tx.refused != nil || c.session.owed != 0 ||
		anyLimit.Load() && c.mayRaise(ctx) ||
		anySettings.Load() && (settingsOf(ctx) != nil || c.tx.base != nil || len(c.session.local.names) > 0)
}

// inTx reports whether a transaction is open on the server, or is about to be.
func (c *Conn) inTx() bool { return c.tx.begin != "" || c.pg.TxStatus() != 'I' }

// recurring returns a rider that executes a statement of ours with these parameters. The statement is prepared under this name
// the first time, since parsing it costs the server some 20 µs. Where the settings say that statements must not be kept,
// because a pooler is in between, it is parsed each time. again is Rider.Again.
func (c *Conn) recurring(name, text string, again bool, parameters ...[]byte) *wire.Rider {
	if !c.keepsPrepared() {
		return passing(text, again, parameters...)
	}
	size := 64 + len(name)
	for _, p := range parameters {
		size += 4 + len(p)
	}
	r := &wire.Rider{Messages: make([]byte, 0, size), Answers: "2C", Again: again}
	if !c.isPrepared(name) && !slices.Contains(c.ride.names, name) {
		c.ride.names = append(c.ride.names, name)
		r.Messages = encode(r.Messages, &pgproto3.Close{ObjectType: 'S', Name: name}, // it may be there
			&pgproto3.Parse{Name: name, Query: text})
		r.Answers = "312C"
	}
	r.Messages = encode(r.Messages, &pgproto3.Bind{PreparedStatement: name, Parameters: parameters}, &pgproto3.Execute{})
	return r
}

// passing returns a rider that executes a statement with these parameters, and leaves nothing prepared. If the rider goes again
// with each flight, the statement needs a name: one without a name would replace the statement without a name that pgx has
// prepared in its first flight, and executes in its second.
func passing(text string, again bool, parameters ...[]byte) *wire.Rider {
	if !again {
		return &wire.Rider{
			Messages: encode(nil, &pgproto3.Parse{Query: text}, &pgproto3.Bind{Parameters: parameters}, &pgproto3.Execute{}),
			Answers:  "12C",
		}
	}
	const name = "pgprod_passing"
	drop := &pgproto3.Close{ObjectType: 'S', Name: name}
	return &wire.Rider{
		Messages: encode(nil, drop, &pgproto3.Parse{Name: name, Query: text},
			&pgproto3.Bind{PreparedStatement: name, Parameters: parameters}, &pgproto3.Execute{}, drop),
		Answers: "312C3", Again: true,
	}
}

// encode appends messages to b. It panics if one is longer than PostgreSQL's protocol allows (1 GB), which no rider is.
func encode(b []byte, messages ...pgproto3.FrontendMessage) []byte {
	for _, m := range messages {
		var err error
		if b, err = m.Encode(b); err != nil {
			panic(err)
		}
	}
	return b
}

// beginRider returns the rider that begins a transaction, given its text. It is kept for the next transaction, which as a
// rule is of the same kind.
func (c *Conn) beginRider(text string) *wire.Rider {
	kept := &c.session.begin
	if kept.rider != nil && kept.text == text {
		return kept.rider
	}
	name := "pgprod_" + strings.ReplaceAll(text, " ", "_")
	r := c.recurring(name, text, false)
	if c.isPrepared(name) { // else it prepares the statement, which it needn't do the next time
		*kept = keptBegin{text, r}
	}
	return r
}

// isPrepared reports whether a statement of ours is prepared, or whether none is, because the settings say so.
func (c *Conn) isPrepared(name string) bool { return !c.keepsPrepared() || c.session.prepared[name] }

// keepsPrepared reports whether statements may be kept prepared.
func (c *Conn) keepsPrepared() bool {
	return c.dialer.cfg.Conn.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement
}

// getOff is called when pgx has returned from a statement, with its error. It notes what the riders have done. If the server
// has refused one of them, the statement has not run, and the error says so.
func (c *Conn) getOff(err error) error {
	r := c.ride
	c.ride = ride{}
	if !r.boarded() {
		return err
	}
	went, refused := c.tap.GetOff()
	if r.raise.scope == forSession {
		defer c.owesRaised(r.raise.to)
	}
	switch {
	case !went:
		return err
	case c.pg.IsClosed(): // what was refused may be the session, which the server has ended
		if r.begin != nil {
			c.lostAtBegin(err)
		}
		return err
	case refused == nil:
		c.arrived(&r)
		return err
	}
	return c.turnedAway(&r, refused, err)
}

// lostAtBegin is called when the connection was lost, with err, by the statement with which a transaction was about to begin.
// The transaction has done nothing else, and if the server has ended that statement, or not executed it, it may begin on
// another connection, unless its borrower has used this one before.
func (c *Conn) lostAtBegin(err error) {
	if c.isFirst() && (c.neverExecuted() || c.endedInstead(err)) {
		c.attempt.turned = elsewhere
		return
	}
	c.tx.beginSent(true)
}

// arrived is called when the server has executed all riders.
func (c *Conn) arrived(r *ride) {
	// While rows are open, the server has not said yet what state the transaction is in.
	inTx := r.inTx && (c.pg.IsBusy() || c.pg.TxStatus() != 'I')
	if r.carries { // else they went by themselves
		c.dialer.saved.note(r)
	}
	if r.clean != nil {
		c.cleaned()
	}
	for _, name := range r.names {
		if c.session.prepared == nil {
			c.session.prepared = map[string]bool{}
		}
		c.session.prepared[name] = true
	}
	if r.begin != nil {
		c.tx.beginSent(inTx)
	}
	if r.once != nil {
		c.tx.owesKey = false
	}
	if inTx {
		c.session.local.noteRide(r)
	}
}

// turnedAway is called when the server has refused a rider with err, and so the statement. It returns the error of the
// statement.
func (c *Conn) turnedAway(r *ride, refused *wire.Rider, err error) error {
	c.attempt.turned = forGood
	if refused == r.clean {
		c.dirty = true
		if !c.guard.Cut().Happened() {
			c.attempt.turned = elsewhere
		}
		return fmt.Errorf("%swhat the last borrower of the connection has left could not be undone, the statement has not run: %w",
			c.dialer.prefix(), err)
	}
	if r.clean != nil {
		c.cleaned()
	}
	if r.begin != nil && refused != r.begin {
		c.tx.beginSent(true)
	}
	isGone := pgerror.HasNoSuchStatement(err) // something has deallocated what we had prepared
	if isGone {
		c.session.deallocated()
		if c.pg.TxStatus() == 'I' {
			c.attempt.turned = here
			return err
		}
		err = outdatedError{err} // the transaction has failed, and may succeed if it is begun again
	}
	switch refused {
	case r.begin:
		return c.beginRefused(err)
	case r.once:
		return c.keyRefused(err)
	case r.raise.rider:
		return fmt.Errorf("%sstatement_timeout could not be raised for ContextWithCommandTimeout, the statement has not run: %w",
			c.dialer.prefix(), err)
	}
	c.tx.owesKey = c.tx.owesKey && r.once == nil
	c.session.local.doubtful = true
	if isGone {
		return fmt.Errorf("%sthe settings of the statement are not prepared any more, it has not run: %w", c.dialer.prefix(), err)
	}
	return c.refusedSettings(refused == r.trace, err)
}

// boarded reports whether anything was boarded.
func (r *ride) boarded() bool {
	return r.clean != nil || r.begin != nil || r.once != nil || r.set != nil || r.trace != nil || r.raise.rider != nil
}
