package link

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/settings"
	"github.com/pgprod/pgprod/internal/sqlsummary"
	"github.com/pgprod/pgprod/internal/wire"
)

// ctxSettings are the run-time parameters that a context brings for the statements under it. They are not changed once made,
// and are safe for concurrent use.
type ctxSettings struct {
	values map[string]string
	all    []setting // the same, sorted by name
	err    error     // why they can't be set: a name or a value is not allowed; nil: they can
	path   bool      // one of them decides which tables the names in a statement stand for
}

// A setting is what is to be set for a parameter.
type setting struct {
	name  string
	value []byte // nil: the session's default
}

type settingsKey struct{}

// anySettings is true once WithSettings was called. Programs that don't use it are spared to look into each context.
var anySettings atomic.Bool

// WithSettings returns a context whose statements run with these run-time parameters, besides those that ctx brings; of two
// values for a name the new one counts. Names and values are checked when a statement is about to be sent.
func WithSettings(ctx context.Context, values map[string]string) context.Context {
	if len(values) == 0 {
		return ctx
	}
	anySettings.Store(true)
	if outer := settingsOf(ctx); outer != nil {
		return context.WithValue(ctx, settingsKey{}, outer.with(values))
	}
	return context.WithValue(ctx, settingsKey{}, newSettings(maps.Clone(values)))
}

// newSettings returns settings that have these values.
func newSettings(values map[string]string) *ctxSettings {
	s := &ctxSettings{values: values, all: make([]setting, 0, len(values))}
	for name, value := range values {
		s.err = cmp.Or(s.err, checkSetting(name, value))
		s.path = s.path || sqlsummary.IsPath(strings.ToLower(name))
		s.all = append(s.all, setting{name, []byte(value)})
	}
	slices.SortFunc(s.all, func(a, b setting) int { return strings.Compare(a.name, b.name) })
	return s
}

// with returns settings that have these values too, which win.
func (s *ctxSettings) with(more map[string]string) *ctxSettings {
	values := maps.Clone(s.values)
	maps.Copy(values, more)
	return newSettings(values)
}

// settingsOf returns the settings that a context brings, nil for none.
func settingsOf(ctx context.Context) *ctxSettings {
	if !anySettings.Load() {
		return nil
	}
	s, _ := ctx.Value(settingsKey{}).(*ctxSettings)
	return s
}

// checkSetting reports what is wrong with the name of a setting, or with its value, which is not in the error.
func checkSetting(name, value string) error {
	const longest = 1 << 20 // far more than any setting needs, and far less than a message may have
	switch {
	case name == "" || strings.ContainsFunc(name, func(c rune) bool {
		return c != '_' && c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
	}):
		return fmt.Errorf("pgprod: ContextWithSettings: the name %q must consist of letters, digits, _ and dots", name)
	case strings.ContainsRune(value, 0):
		return fmt.Errorf("pgprod: ContextWithSettings: the value of %s must not contain a zero byte", name)
	case len(value) > longest:
		return fmt.Errorf("pgprod: ContextWithSettings: the value of %s must not be longer than %d bytes", name, longest)
	}
	return nil
}

// The errors of statements that can't have the settings of their context.
var (
	errSettingsSimple = errors.New("pgprod: the settings of the context can't travel with this statement outside of a transaction: " +
		"it consists of several statements, or is sent by the simple protocol (default_query_exec_mode=simple_protocol)")
	errSettingsAlone = errors.New("pgprod: the settings of the context can't travel with this statement: it must not run in a " +
		"transaction (VACUUM, CREATE DATABASE, … CONCURRENTLY), or may commit in its midst, which ends them (CALL, DO; " +
		"in a transaction these have them)")
	errSettingsRaw = errors.New("pgprod: the settings of the context can't travel with statements of a *pgx.Conn: " +
		"give Raw a context without them, and set them in its function")
)

// settingsFor returns what has to be set for a statement, and which settings hold then. It is nil if nothing has to be set,
// because they hold already or the statement needs none.
func (c *Conn) settingsFor(ctx context.Context, query string, how way) (change []setting, wanted *ctxSettings, err error) {
	wanted = settingsOf(ctx)
	if wanted != nil && wanted.err != nil {
		return nil, nil, wanted.err
	}
	held := &c.session.local
	switch {
	case wanted == nil && c.tx.base == nil && len(held.names) == 0:
		return nil, nil, nil
	case c.pg.TxStatus() == 'E', sqlsummary.ComputesNothing(query):
		return nil, nil, nil // a statement that ends a failed transaction must not have its way blocked by a rider
	case c.inTx():
		wanted = c.tx.settings(wanted)
		return held.changeTo(wanted, c.kept), wanted, nil
	case wanted == nil:
		return nil, nil, nil
	case how == raw:
		return nil, nil, errSettingsRaw
	case sqlsummary.StandsAlone(query):
		return nil, nil, errSettingsAlone
	case how == simple:
		return nil, nil, errSettingsSimple
	}
	return held.changeTo(wanted, nil), wanted, nil
}

// settings returns the settings of a statement of this transaction whose context brings s: those that the transaction was
// begun with, and s, which wins.
func (t *transaction) settings(s *ctxSettings) *ctxSettings {
	switch {
	case s == nil:
		return t.base
	case t.base == nil || s == t.base:
		return s
	}
	return t.base.with(s.values)
}

// local is what riders have set for the transaction that is open on the server. It ends with the transaction.
type local struct {
	set      *ctxSettings    // the settings that hold; nil: none
	names    map[string]bool // all that riders have set since the transaction began, also if it holds no longer
	traced   bool            // application_name is a statement's trace context
	raised   string          // what the server's limit is, see raise.to; "": the session's, unknownTimeout: not known
	doubtful bool            // something else may have changed what holds: ROLLBACK TO a savepoint, SET LOCAL
}

// changeTo returns what has to be set so that the settings wanted hold (nil: none) and no others that riders have set. Those
// go back to what they were when the connection was made; kept is keptSettings.
func (l *local) changeTo(wanted *ctxSettings, kept []settings.Setting) []setting {
	if !l.doubtful && (wanted == l.set || wanted != nil && l.set != nil && maps.Equal(wanted.values, l.set.values)) {
		return nil
	}
	var all []setting
	if wanted != nil {
		all = slices.Clip(wanted.all)
	}
	if len(l.names) == 0 {
		return all
	}
	for _, name := range slices.Sorted(maps.Keys(l.names)) {
		if wanted != nil {
			if _, stays := wanted.values[name]; stays {
				continue
			}
		}
		all = append(all, initial(name, kept))
	}
	return all
}

// initial returns a setting as the connection had it when it was made.
func initial(name string, kept []settings.Setting) setting {
	for _, s := range kept {
		if strings.EqualFold(s.Name, name) {
			return setting{name, []byte(s.Value)}
		}
	}
	return setting{name, nil}
}

// noteRide is called when riders have arrived that go on to hold in a transaction.
func (l *local) noteRide(r *ride) {
	if r.set != nil {
		l.set, l.doubtful = r.wanted, r.unset
		if l.names == nil {
			l.names = map[string]bool{}
		}
		if r.wanted != nil {
			for name := range r.wanted.values {
				l.names[name] = true
			}
		}
	}
	if r.trace != nil {
		l.traced = true
	}
	l.noteRaise(r)
}

// noteUnset is called when a query has ended. It notes whether the query may have changed what holds by settings, those that
// have come with it included. It does so whenever the query runs: a text that leaves nothing behind may do this.
func (c *Conn) noteUnset(tag, sql string) {
	l := &c.session.local
	if len(l.names) == 0 && l.raised == "" && c.ride.set == nil && c.ride.raise.scope == notRaised || !unsets(tag, sql) {
		return
	}
	l.doubtful, c.ride.unset = true, true
	if l.raised != "" {
		l.raised = unknownTimeout
	}
}

// unsets reports whether a query may have changed parameters in its transaction.
func unsets(tag, sql string) bool {
	word, _, _ := strings.Cut(tag, " ")
	switch word {
	case "SET", "RESET", "ROLLBACK", "DO", "CALL", "DISCARD":
		return true
	}
	return !isSingle(sql) || mentions(sql, "set_config")
}

// setters are the names and the texts of the statements that set one parameter, two, and so on.
var setters = func() (all [8]struct{ name, text string }) {
	for i := range all {
		all[i].name, all[i].text = fmt.Sprintf("pgprod_set_%d", i+1), settingText(i+1, true)
	}
	return all
}()

// settingText returns the text of a statement that sets n parameters, until the end of the transaction if local is true, else
// for the session.
func settingText(n int, local bool) string {
	calls := make([]string, n)
	for i := range calls {
		calls[i] = fmt.Sprintf("pg_catalog.set_config($%d, $%d, %t)", 2*i+1, 2*i+2, local)
	}
	return "select " + strings.Join(calls, ", ")
}

// settingRider returns a rider that sets parameters until the end of the transaction, which outside of one is the end of the
// flight, so that it has to go with each. again is Rider.Again.
func (c *Conn) settingRider(all []setting, again bool) *wire.Rider {
	parameters := make([][]byte, 0, 2*len(all))
	for _, s := range all {
		parameters = append(parameters, []byte(s.name), s.value)
	}
	if n := len(all); n <= len(setters) {
		return c.recurring(setters[n-1].name, setters[n-1].text, again, parameters...)
	}
	return passing(settingText(len(all), true), again, parameters...)
}

// refusedSettings returns the error of a statement whose settings the server has refused, or, if trace is true, its trace
// context. It is without what the server says of their values.
func (c *Conn) refusedSettings(trace bool, err error) error {
	pg := pgerror.From(err)
	if pg == nil || pgerror.IsCanceled(err) {
		return err
	}
	e := &settingsError{prefix: c.dialer.prefix() + "ContextWithSettings: ", cause: &pgconn.PgError{
		Severity: pg.Severity, SeverityUnlocalized: pg.SeverityUnlocalized, Code: pg.Code,
		Message: "a setting of the context was refused, the statement has not run",
	}}
	if pgerror.NamesSetting(pg) {
		e.cause.Message += ": " + pg.Message
	}
	if trace {
		e.prefix, e.cause.Message = c.dialer.prefix()+"trace_context: ", "application_name could not be set, the statement has not run"
	}
	return e
}

// refuseInRaw is called by the tracer when a caller of Raw begins something. If ctx brings settings, which can't travel there,
// the result is a context that has ended, so that pgx sends nothing: without its settings the statement must not run. In a
// transaction whose statements have the same settings anyway it is ctx.
func (c *Conn) refuseInRaw(ctx context.Context) context.Context {
	if !c.raw.lent {
		return ctx
	}
	if err := checkLimit(ctx); err != nil {
		return c.refusedInRaw(ctx, err)
	}
	s := settingsOf(ctx)
	if s == nil || c.inTx() && c.session.local.changeTo(c.tx.settings(s), nil) == nil {
		return ctx
	}
	return c.refusedInRaw(ctx, errSettingsRaw)
}

// refusedInRaw returns a context that has ended because of err, which is why a statement of a caller of Raw is refused.
func (c *Conn) refusedInRaw(ctx context.Context, err error) context.Context {
	c.raw.refused = err
	ended, cancel := context.WithCancelCause(ctx)
	cancel(err)
	return ended
}

// A settingsError is the server's refusal of a context's settings.
type settingsError struct {
	prefix string
	cause  *pgconn.PgError // has no value in it
}

func (e *settingsError) Error() string { return e.prefix + e.cause.Error() }

// Unwrap returns the cause.
func (e *settingsError) Unwrap() error { return e.cause }

// withoutValues returns the error of a statement under way as it may be shown: if the server has refused its settings
// or its transaction's key, without their values.
func (c *Conn) withoutValues(err error) error {
	if err == nil || c.ride.set == nil && c.ride.once == nil {
		return err
	}
	switch refused := c.tap.RiderRefused(); {
	case refused == nil:
	case refused == c.ride.set:
		return c.refusedSettings(false, err)
	case refused == c.ride.once:
		return c.withoutKey(err)
	}
	return err
}
