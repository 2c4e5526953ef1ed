package link

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pgprod/pgprod/internal/settings"
	"github.com/pgprod/pgprod/internal/sqlsummary"
	"github.com/pgprod/pgprod/internal/wire"
)

// A limit is how long a statement may take, its rows included.
type limit struct {
	time.Duration      // 0: there is none
	own           bool // the statement's context brings it, and it isn't the pool's command_timeout
}

type limitKey struct{}

// anyLimit is true once WithCommandTimeout was called. Programs that don't use it are spared to look into each context.
var anyLimit atomic.Bool

// WithCommandTimeout returns a context whose statements have this limit in place of the pool's command_timeout; 0: none. A
// negative one is refused when a statement is about to be sent.
func WithCommandTimeout(ctx context.Context, d time.Duration) context.Context {
	anyLimit.Store(true)
	return context.WithValue(ctx, limitKey{}, d)
}

// errNegative is the error of a statement whose context brings a negative limit. It isn't taken for 0, which would be no
// limit: what is left of somebody's budget becomes negative when that is used up.
var errNegative = errors.New("pgprod: ContextWithCommandTimeout: the duration is negative, nothing was sent (0 is no limit)")

// ownLimit returns the limit that a context brings, and whether it brings one.
func ownLimit(ctx context.Context) (d time.Duration, own bool) {
	if ctx == nil || !anyLimit.Load() {
		return 0, false
	}
	d, own = ctx.Value(limitKey{}).(time.Duration)
	return d, own
}

// checkLimit returns an error if a context brings a limit that is not allowed.
func checkLimit(ctx context.Context) error {
	if d, _ := ownLimit(ctx); d < 0 {
		return errNegative
	}
	return nil
}

// limitOf returns the limit of a statement with this context.
func (c *Conn) limitOf(ctx context.Context) limit {
	if d, own := ownLimit(ctx); own {
		return limit{d, true}
	}
	return limit{Duration: c.dialer.cfg.CommandTimeout}
}

// text says in words whose limit it is. commits says that the statement is a COMMIT, which has that of BeginTx's context.
func (l limit) text(commits bool) string {
	switch {
	case !l.own:
		return fmt.Sprintf("command_timeout (%v)", l.Duration)
	case commits:
		return fmt.Sprintf("the command_timeout of its transaction's context (%v)", l.Duration)
	}
	return fmt.Sprintf("the command_timeout of its context (%v)", l.Duration)
}

// The server has a limit of its own, statement_timeout, which a connection sets a second above the pool's command_timeout. A
// statement whose context brings a longer limit has it raised, in one of these scopes.
type scope uint8

const (
	notRaised  scope = iota // the server's limit is high enough
	forFlight               // until the end of the statement, by a rider that goes with each of its flights
	forTx                   // until the end of the transaction, or the next statement with another limit
	forSession              // until the session is cleaned, which is due as soon as the statement has run
)

const statementTimeout = "statement_timeout"

// unknownTimeout is what local.raised is after something else may have changed the server's limit.
const unknownTimeout = "?"

// A raise is what the server's statement_timeout becomes for a statement.
type raise struct {
	scope scope
	to    string      // in milliseconds, "0": none; "": what the session has
	rider *wire.Rider // sets it; nil: it is set already
}

// raiseFor returns how the server's limit has to be raised for a statement, without its rider. By a rider of a flight it
// can't be done where the statement has no room for one, or mustn't be in a transaction with others, as VACUUM mustn't: there
// it is the session's, and left to be cleaned. Where the application sets statement_timeout by ContextWithSettings, it isn't
// raised.
func (c *Conn) raiseFor(ctx context.Context, query string, how way) raise {
	if !anyLimit.Load() || c.pg.TxStatus() == 'E' || c.setsTimeout(ctx) || sqlsummary.ComputesNothing(query) && !locks(query) {
		return raise{}
	}
	if c.inTx() {
		r := raise{scope: forTx, to: c.needed(ctx, c.tx.ctx)}
		if r.to == c.session.local.raised {
			return raise{}
		}
		return r
	}
	r := raise{to: c.needed(ctx, nil)}
	switch {
	case r.to == "":
	case how != extended || sqlsummary.StandsAlone(query):
		r.scope = forSession
	default:
		r.scope = forFlight
	}
	return r
}

// locks reports whether a statement is LOCK, which may wait for as long as its limit is. What raises that is no query, and
// so doesn't hide from later queries what is committed meanwhile.
func locks(query string) bool {
	first, _ := sqlsummary.FirstWords(query)
	return strings.EqualFold(first, "lock")
}

// setsTimeout reports whether the settings of a statement's context set statement_timeout.
func (c *Conn) setsTimeout(ctx context.Context) bool {
	s := settingsOf(ctx)
	if c.inTx() {
		s = c.tx.settings(s)
	}
	return s != nil && slices.ContainsFunc(s.all, isTimeout)
}

func isTimeout(s setting) bool { return strings.EqualFold(s.name, statementTimeout) }

// needed returns what the server's limit must be for a statement, in milliseconds, or "" if it needn't be raised. In a
// transaction the limit that COMMIT will have counts as well, so that nothing need be sent ahead of that.
func (c *Conn) needed(ctx, tx context.Context) string {
	longest := time.Duration(-1)
	for _, ctx := range []context.Context{ctx, tx} {
		if d, own := ownLimit(ctx); own && longest != 0 && (d == 0 || d > longest) {
			longest = d
		}
	}
	bound := c.dialer.greeting.Load().limit
	switch {
	case longest < 0, bound == 0, bound > 0 && longest > 0 && bound >= longest:
		return ""
	case longest == 0:
		return "0"
	}
	return strconv.FormatInt(min(math.MaxInt32, int64(longest/time.Millisecond)+1000), 10)
}

// unknownBound is the server's limit if a connection doesn't set it: it is the role's, the database's or the server's.
const unknownBound = -1

// boundOf returns the server's own limit for the statements of new connections: 0 for none, or unknownBound.
func boundOf(cfg *settings.Config) time.Duration {
	text, given := cfg.ServerSetting(statementTimeout)
	if !given {
		return unknownBound
	}
	return serverDuration(text)
}

// serverDuration reads a duration as the server writes it: a number of milliseconds, or one with a unit. It returns
// unknownBound for anything else.
func serverDuration(text string) time.Duration {
	text = strings.TrimSpace(text)
	digits := len(text) - len(strings.TrimLeft(text, "0123456789"))
	n, err := strconv.ParseInt(text[:digits], 10, 32)
	unit, known := units[strings.TrimSpace(text[digits:])]
	if err != nil || !known {
		return unknownBound
	}
	return time.Duration(n) * unit
}

// units are the server's units of time.
var units = map[string]time.Duration{
	"": time.Millisecond, "us": time.Microsecond, "ms": time.Millisecond, "s": time.Second, "min": time.Minute, "h": time.Hour,
	"d": 24 * time.Hour,
}

// raiseRider returns the rider of a raise. SET, unlike a query, takes no snapshot, so that it may go in front of anything.
func (c *Conn) raiseRider(r raise) *wire.Rider {
	switch r.scope {
	case forFlight:
		return c.settingRider([]setting{{statementTimeout, []byte(r.to)}}, true)
	case forTx:
		return passing(setTimeout("local ", r.to, c.kept), false)
	}
	return inOrder(true, plainBegin, setTimeout("", r.to, c.kept), "commit")
}

// boardRaise has the rider of a raise travel with the statement.
func (c *Conn) boardRaise(r raise) {
	if r.scope == notRaised {
		return
	}
	r.rider = c.raiseRider(r)
	c.ride.raise = r
	c.tap.Board(r.rider)
}

// mayRaise reports whether a statement may need the server's limit raised, or set back within a transaction.
func (c *Conn) mayRaise(ctx context.Context) bool {
	if c.session.local.raised != "" {
		return true
	}
	_, own := ownLimit(ctx)
	if c.tx.active && !own {
		_, own = ownLimit(c.tx.ctx)
	}
	return own
}

// staysRaised reports whether a session's limit is as a statement needs it, and there is nothing else to clean.
func (c *Conn) staysRaised(r raise) bool {
	return r.scope == forSession && c.session.owed == leftRaised && c.session.raised == r.to
}

// owesRaised notes what the session's limit is, and that it is to be set back before the next statement.
func (c *Conn) owesRaised(to string) {
	c.session.raised = to
	c.session.owed |= leftRaised
}

// raiseInRaw is called by the tracer when a caller of Raw begins something. It raises the server's limit, if need be, in a
// round trip of its own, which counts for the statement. If that fails, the server ends the statement when it did before.
func (c *Conn) raiseInRaw(ctx context.Context) {
	if !anyLimit.Load() || !c.raw.lent || c.depth != 1 || c.pg.IsBusy() || c.pg.IsClosed() || ctx.Err() != nil {
		return
	}
	to, open := c.needed(ctx, c.tx.ctx), c.pg.TxStatus()
	switch {
	case to == "", open == 'E', open == 'T' && to == c.session.local.raised, open == 'I' && to == c.session.raised:
		return
	case open == 'T':
		c.session.local.raised = to
		_, _ = c.pg.Exec(ctx, setTimeout("local ", to, nil)).ReadAll()
	default:
		c.owesRaised(to)
		_, _ = c.pg.Exec(ctx, setTimeout("", to, nil)).ReadAll()
	}
}

// noteRaise is called when a rider has arrived that raises the server's limit, or sets settings, in a transaction.
func (l *local) noteRaise(r *ride) {
	switch {
	case r.raise.scope == forTx && !r.unset:
		l.raised = r.raise.to
	case r.raise.scope == forTx, r.set != nil && r.wanted != nil && slices.ContainsFunc(r.wanted.all, isTimeout):
		l.raised = unknownTimeout
	}
}

// inOrder returns a rider that executes these statements one after another. again is Rider.Again.
func inOrder(again bool, texts ...string) *wire.Rider {
	r := &wire.Rider{Again: again}
	for _, text := range texts {
		join(r, passing(text, again))
	}
	return r
}

// setTimeout returns the statement that sets the server's limit. An empty value stands for what the session has.
func setTimeout(local, to string, kept []settings.Setting) string {
	if to == "" {
		to = "default"
		if s := initial(statementTimeout, kept); s.value != nil {
			to = quoted(string(s.value))
		}
	}
	return "set " + local + statementTimeout + " to " + to
}

// quoted returns a text as a literal of SQL.
func quoted(text string) string {
	return " E'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
}
