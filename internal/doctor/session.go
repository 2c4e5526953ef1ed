package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/diagnose"
	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/settings"
)

// A session is a connection of the examination's, made as a pool makes its own.
type session struct {
	*link.Conn
	cfg     *settings.Config // the settings that it was made with
	dropped []string         // defaults that were refused, so that it was made without them, as a pool does by itself
	refused []string         // what the user has written and was refused, so that no pool gets a connection
	took    time.Duration    // how long that took
	reached string           // the address
	kind    diagnose.Kind    // what the server says that it is
}

// connect makes a connection and asks the server for its kind. anywhere: any kind of server will do, whatever
// target_session_attrs says.
func (p place) connect(ctx context.Context, cfg *settings.Config, anywhere bool) (*session, error) {
	s, err := p.dial(ctx, cfg, anywhere)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	if s.kind, err = diagnose.AskKind(ctx, s.Conn); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// dial makes a connection. Defaults of pgprod's that are refused are dropped.
func (p place) dial(ctx context.Context, cfg *settings.Config, anywhere bool) (*session, error) {
	ctx, end := context.WithCancel(ctx)
	defer end() // with what still goes on after a dial
	s := &session{}
	dialer := link.NewDialer(ctx, cfg, link.Hooks{
		Target: func(addr net.Addr) *instruments.Target {
			s.reached = addr.String()
			return nil // no statement runs that telemetry would see
		},
		Dropped: func(context.Context, string) {}, // see session.dropped
	})
	ctx, cancel := context.WithTimeout(ctx, dialer.Limit())
	defer cancel()
	start := time.Now()
	var err error
	s.Conn, err = dialer.Dial(ctx, unobserved{}, &link.Check{Anywhere: anywhere, Heard: new(atomic.Int64)})
	s.took = time.Since(start)
	if err != nil {
		return nil, err
	}
	s.dropped = dialer.Dropped()
	s.cfg = cfg.WithoutServerSettings(s.dropped...)
	return s, nil
}

// close ends the connection.
func (s *session) close() {
	s.Stop()
	s.HangUp()
}

// ask sends a question by the simple protocol and returns the rows of its last statement. If there is no answer in time the
// connection is closed.
func (s *session) ask(ctx context.Context, question string) ([][][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	results, err := s.Ask(ctx, question, guard.HangingUp)
	if err != nil || len(results) == 0 {
		return nil, err
	}
	return results[len(results)-1].Rows, nil
}

// errNoValue is the error of a reply without a value.
var errNoValue = errors.New("the server's reply has no value")

// value is ask for a question whose answer is one value.
func (s *session) value(ctx context.Context, question string) (string, error) {
	rows, err := s.ask(ctx, question)
	switch {
	case err != nil:
		return "", err
	case len(rows) == 0 || len(rows[0]) == 0:
		return "", errNoValue
	}
	return string(rows[0][0]), nil
}

// unobserved is the observer of connections that nobody else wants to hear of.
type unobserved struct{}

var _ link.Observer = unobserved{}

func (unobserved) Ended(context.Context, *link.Statement)    {}
func (unobserved) Abandoned(*link.Statement)                 {}
func (unobserved) Warned(*pgconn.Notice, *link.Statement)    {}
func (unobserved) CommitUnknown(why link.Unknown, err error) {}
func (unobserved) Lost(*link.Conn, error)                    {}
func (unobserved) Silent()                                   {}

// visit looks at the server at one address, of which cfg has the settings. brief: another address of the same host was
// looked at before, so only what may differ is. It reports whether there was a server that answered.
func (p place) visit(ctx context.Context, cfg *settings.Config, brief bool) bool {
	s := p.logIn(ctx, cfg)
	if s == nil {
		p.skipRest("the login failed")
		return false
	}
	defer s.close()
	p.ok("login", "as %s to %s, within %v, TLS and server settings included", cfg.Conn.User, cfg.Conn.Database, short(s.took))
	p.tls(s)
	p.serverKind(s)
	if !brief {
		p.latency(ctx, s)
		p.types(ctx, s)
		p.server(ctx, s)
	}
	return true
}

// logIn connects to a host. If it refuses server settings, the examination goes on without them. It returns nil if there is
// no connection.
func (p place) logIn(ctx context.Context, cfg *settings.Config) *session {
	s, err := p.connectSoon(ctx, cfg)
	if err == nil {
		p.dropped(s)
		return s
	}
	if !pgerror.RefusesSetting(err) {
		p.fail("login", adviceOn(cfg, err), "%s", link.SafeText(err))
		return nil
	}
	refused := p.refused(ctx, cfg)
	if len(refused) == 0 { // only in combination
		refused = written(cfg)
	}
	s, err2 := p.connectSoon(ctx, cfg.WithoutServerSettings(refused...))
	if err2 != nil {
		p.fail("login", adviceOn(cfg, err2), "also without server settings: %s", link.SafeText(err2))
		return nil
	}
	s.refused = refused
	p.fail("startup parameters", "take them out of the DSN and the environment; a pool drops only defaults by itself",
		"refused are %s: %s", strings.Join(refused, ", "), link.SafeText(pgerror.From(err)))
	return s
}

// dropped says which defaults a pool leaves out on this host.
func (p place) dropped(s *session) {
	if len(s.dropped) == 0 {
		return
	}
	p.warn("startup parameters", dropping(s.dropped)+" saves the dials that find it out",
		"refused are %s: defaults, which a pool drops by itself", strings.Join(s.dropped, ", "))
}

// dropping is what a user writes to drop defaults.
func dropping(names []string) string {
	return `DB_SERVER_SETTINGS="` + strings.Join(names, "=,") + `="`
}

// connectSoon is connect to any kind of server. If there is no room for a connection, it tries again for a moment: the
// server may not have noticed yet that an earlier connection of the examination's is closed.
func (p place) connectSoon(ctx context.Context, cfg *settings.Config) (s *session, err error) {
	for range 25 {
		if s, err = p.connect(ctx, cfg, true); !pgerror.ServerIsFull(err) || ctx.Err() != nil {
			return s, err
		}
		pause(ctx, retryPause/5)
	}
	return s, err
}

// refused returns the names of the server settings that a host refuses and that are no defaults, by trying each alone.
func (p place) refused(ctx context.Context, cfg *settings.Config) (names []string) {
	all := serverSettings(cfg)
	for _, name := range written(cfg) {
		others := slices.DeleteFunc(slices.Clone(all), func(other string) bool { return other == name })
		s, err := p.dial(ctx, cfg.WithoutServerSettings(others...), true)
		switch {
		case err == nil:
			s.close()
		case pgerror.RefusesSetting(err):
			names = append(names, name)
		}
	}
	return names
}

// serverSettings are the names of the server settings that are asked for, except application_name, which every pooler takes.
func serverSettings(cfg *settings.Config) (names []string) {
	for name := range cfg.Conn.RuntimeParams {
		names = append(names, name)
	}
	for _, s := range cfg.Set {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	return slices.DeleteFunc(names, func(name string) bool { return strings.EqualFold(name, "application_name") })
}

// written are the server settings that aren't only defaults, which a pool would drop.
func written(cfg *settings.Config) []string {
	return slices.DeleteFunc(serverSettings(cfg), func(name string) bool { return slices.Contains(cfg.OnlyDefaults, name) })
}

// serverKind says what kind of server it is, and whether the pool uses such a one.
func (p place) serverKind(s *session) {
	attrs := p.cfg.TargetSessionAttrs
	if !s.kind.Fits(attrs) {
		p.warn("server", "it is used only once it is of that kind; where no host is, look at target_session_attrs",
			"PostgreSQL %s, %s, which target_session_attrs=%s passes over", s.kind.Version, s.kind, attrs)
		return
	}
	switch {
	case (attrs == "" || attrs == "any") && s.kind.String() != "a primary":
		p.warn("server", "for writes set target_session_attrs=read-write", "PostgreSQL %s, %s: it takes no writes",
			s.kind.Version, s.kind)
	default:
		p.ok("server", "PostgreSQL %s, %s", s.kind.Version, s.kind)
	}
}

// far is the median of round trips above which a server counts as far away.
const far = 20 * time.Millisecond

// latency measures a few round trips.
func (p place) latency(ctx context.Context, s *session) {
	var all []time.Duration
	for range 7 {
		start := time.Now()
		if _, err := s.ask(ctx, "select 1"); err != nil {
			p.fail("round trip", "look at the network, and at the server's log", "no answer: %s", link.SafeText(s.Real(err)))
			return
		}
		all = append(all, time.Since(start))
	}
	slices.Sort(all)
	text := fmt.Sprintf("%v (of %d: %v to %v)", short(all[len(all)/2]), len(all), short(all[0]), short(all[len(all)-1]))
	if all[len(all)/2] > far {
		p.warn("round trip", "each statement costs that much: bring program and server closer together", "%s", text)
		return
	}
	p.ok("round trip", "%s", text)
}

// expiresSoon is how long before its end a certificate is worth a warning.
const expiresSoon = 21 * 24 * time.Hour

// tls says how the connection is encrypted, what of the server was verified, and when its certificate ends.
func (p place) tls(s *session) {
	secured, ok := s.Pgx().PgConn().Conn().(*tls.Conn)
	local := settings.IsLocal(s.cfg.Conn.Host)
	switch {
	case !ok && local:
		p.ok("tls", "none, and the host is local")
		return
	case !ok:
		p.warn("tls", "sslmode should be verify-full, or at least require", "none: everything can be read on the way")
		return
	}
	state := secured.ConnectionState()
	text := tls.VersionName(state.Version)
	left := expiresSoon
	if len(state.PeerCertificates) > 0 {
		end := state.PeerCertificates[0].NotAfter
		left = time.Until(end)
		text += ", the certificate ends on " + end.UTC().Format(time.DateOnly)
	}
	verified, complete := verification(s.cfg.Conn.TLSConfig)
	text += ", " + verified
	switch {
	case left < expiresSoon:
		p.warn("tls", "renew the server's certificate", "%s: that is soon", text)
	case !complete && !local:
		p.warn("tls", "sslmode=verify-full with sslrootcert checks who answers", "%s", text)
	default:
		p.ok("tls", "%s", text)
	}
}

// verification says what a configuration makes the handshake verify, and whether that is everything.
func verification(c *tls.Config) (text string, complete bool) {
	switch {
	case c == nil || c.InsecureSkipVerify && c.VerifyPeerCertificate == nil:
		return "which was not verified", false
	case c.InsecureSkipVerify:
		return "which an authority of sslrootcert has signed; its name was not verified", false
	}
	return "which was verified, with its name", true
}
