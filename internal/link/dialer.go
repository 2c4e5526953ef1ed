package link

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/credentials"
	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/hosts"
	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/repeats"
	"github.com/pgprod/pgprod/internal/settings"
	"github.com/pgprod/pgprod/internal/wire"
)

// Hooks are what a dialer and its connections call.
type Hooks struct {
	// Login is the application's function for what to log in with. LoginFailed is called when it fails, with an error of this
	// package; valid says that what it said before still serves. LoginCame is called when it succeeds; changed says that it has
	// said something else before. Both may be nil if what it says isn't kept.
	Login       credentials.Source
	LoginFailed func(err error, valid bool)
	LoginCame   func(changed bool)

	Notice  func(*pgconn.Notice)                   // called for each notice of the server; nil: notices are not passed on
	Dropped func(ctx context.Context, text string) // called when settings were dropped, see dropRefused; nil: none are
	// Dial is the application's dial function; nil: there is none.
	Dial pgconn.DialFunc
	// AfterConnect is the application's function for each new connection of the pool; nil: there is none.
	AfterConnect func(context.Context, *pgx.Conn) error
	Target       func(net.Addr) *instruments.Target // returns telemetry's view of a connection to this address
	Tagged       bool                               // statements have the tags of package sqlcomment
	HostChanged  func(*hosts.Host, hosts.Change)    // hosts.Options.Changed; nil: nobody is told
	// Run runs a task in a goroutine that whoever ends life waits for; nil: nobody waits.
	Run     func(task func())
	Repeats *repeats.Detector // is told of each statement; nil: nobody is
}

// A Dialer makes the connections of one pool and its health checks, and has what these share. It is safe for concurrent use.
type Dialer struct {
	cfg   *settings.Config // not changed
	hooks Hooks
	life  context.Context // ends with the pool
	hosts *hosts.Board    // what is known of the hosts
	paths paths           // what else is known for the order in which they are tried
	found searches        // at most one dial asks all hosts
	// attempt makes connections to a lane's host. If one of them has won the race it returns nil, and the race has its result.
	// Only tests of the race change it.
	attempt func(context.Context, *lane) error

	keeper     *credentials.Keeper            // has what the application's function says; nil: there is no function
	usesTLS    bool                           // the connection to at least one of the hosts may use TLS
	lastTLS    atomic.Pointer[pgx.ConnConfig] // the last configuration whose authorities could be read; nil before the first dial
	schema     atomic.Uint64                  // counts the changes of the schema that the pool's connections have seen
	parameters parameterCounts
	uses       uses
	greeting   atomic.Pointer[greeting] // what new connections set for their sessions; never nil
	dropping   sync.Mutex               // makes a change of greeting whole; nothing else is locked under it
	told       atomic.Int64             // how many dropped settings were reported
	saved      saved                    // counts round trips
	dialTook   atomic.Int64             // how long the application's function has taken to make the last network connection
	warms      bool                     // new connections prepare what is used most; not changed
}

// NewDialer returns a dialer. When life ends, so does the context that the application's function for the login is called
// with.
func NewDialer(life context.Context, cfg *settings.Config, hooks Hooks) *Dialer {
	d := &Dialer{
		cfg: cfg, hooks: hooks, life: life, attempt: func(ctx context.Context, l *lane) error { return l.connect(ctx) },
		usesTLS: cfg.Conn.TLSConfig != nil || slices.ContainsFunc(cfg.Conn.Fallbacks,
			func(f *pgconn.FallbackConfig) bool { return f.TLSConfig != nil }),
		warms: warms(cfg.Conn, hooks),
		hosts: hosts.New(hosts.Options{
			Hosts: cfg.Hosts(), Wanted: hosts.Wanted(cfg.TargetSessionAttrs), Random: cfg.RandomHosts, Changed: hooks.HostChanged,
		}),
	}
	d.greeting.Store(greetingOf(cfg, nil))
	if hooks.Login.Ask != nil {
		d.keeper = d.newKeeper()
	}
	return d
}

// Hosts returns what is known of the pool's hosts.
func (d *Dialer) Hosts() *hosts.Board { return d.hosts }

// Limit returns how long one dial may take at most. pgx applies connect_timeout to each address; here they are tried side by side,
// so that all together take that long, the head starts of all but one host, and the time for which the first are waited for alone.
// The resolver, the application's function for the login, and the settings and functions of a new connection, to which pgx
// doesn't apply it, may take as long again.
func (d *Dialer) Limit() time.Duration {
	timeout, more := min(d.cfg.ConnectTimeout, 24*time.Hour), time.Duration(0)
	if n := len(d.hosts.Hosts()); n > 1 {
		more = max(leastPatience, d.cfg.DeadAfter) + time.Duration(n-1)*headStart
	}
	return 2*timeout + more
}

// PingTimeout returns how long a ping may take at most.
func (d *Dialer) PingTimeout() time.Duration { return min(d.cfg.ConnectTimeout, 5*time.Second) }

// A Check says how the connection of a health check differs from one of the pool's. No statement of the application's runs
// on such a connection.
type Check struct {
	Anywhere bool          // any kind of server will do, whatever target_session_attrs says
	At       Place         // the only place to connect to; without an address, any of its host's; zero: whichever host will do
	Heard    *atomic.Int64 // by package clock: when a server that is being asked last sent something, 0: none has yet; may be nil
}

// Dial makes a connection that reports to observer. check is nil for a connection of the pool's. If the server refuses the
// login, and the application's function has other credentials by now, Dial tries once more.
func (d *Dialer) Dial(ctx context.Context, observer Observer, check *Check) (*Conn, error) {
	login, err := d.login(ctx)
	if err != nil {
		return nil, err
	}
	c, err := d.dialHosts(ctx, purpose{observer, check, login})
	if err == nil || !d.mayRenew(err) {
		return c, err
	}
	if login = d.keeper.Refused(ctx, login); login == nil {
		return nil, err
	}
	return d.dialHosts(ctx, purpose{observer, check, login})
}

// plan returns which hosts a dial tries.
func (d *Dialer) plan(check *Check) hosts.Plan {
	switch {
	case check == nil:
		return d.hosts.Plan()
	case check.At.Host != nil:
		return hosts.Plan{First: []*hosts.Host{check.At.Host}}
	case check.Anywhere:
		return d.hosts.PlanAnywhere()
	}
	return d.hosts.Plan()
}

// spawn runs a task of this package's, which ends with the dialer's life at the latest.
func (d *Dialer) spawn(task func()) {
	if d.hooks.Run == nil {
		go task()
		return
	}
	d.hooks.Run(task)
}

// dialDropping is dial, again and again while what is refused are settings that can be dropped.
func (r *race) dialDropping(ctx context.Context, g *leg) (*Conn, error) {
	for {
		used := r.greeting.Load()
		c, err := r.dial(ctx, g, used)
		switch {
		case err == nil:
			r.tellDropped(ctx, used)
			return c, nil
		case ctx.Err() != nil || r.lost(g) || !r.dropRefused(used, err):
			return nil, err
		}
	}
}

// dial makes a connection with the given settings for the session.
func (r *race) dial(ctx context.Context, g *leg, sets *greeting) (*Conn, error) {
	d := r.Dialer
	c := &Conn{
		dialer: d, observer: r.observer, host: g.lane.host, login: r.issue, kept: sets.kept, prepared: prepared{schema: d.schema.Load()},
	}
	c.guard = guard.New(func() bool { return r.check != nil || c.tap.Answered() })
	making := &dialling{Dialer: d, race: r, leg: g, conn: c, check: r.check, sets: sets, began: clock.Now()}
	std, err := stdlib.GetConnector(*d.cfg.Conn,
		stdlib.OptionBeforeConnect(making.beforeConnect),
		stdlib.OptionAfterConnect(making.afterConnect),
	).Connect(context.WithValue(ctx, connecting{}, true))
	if err != nil {
		return nil, err
	}
	c.std = std.(*stdlib.Conn)
	c.target = d.hooks.Target(c.pg.Conn().RemoteAddr())
	c.heard.Store(clock.Now())
	c.backend = newBackend(c.pg, making.address, making.began, c.Heard())
	return c, nil
}

// dialling is the making of one connection. stdlib and pgx call beforeConnect, connectOrCancel's function and afterConnect, in
// this order, and the one in the middle once for each address.
type dialling struct {
	*Dialer
	race    *race
	leg     *leg
	conn    *Conn
	check   *Check    // nil: the connection is for the pool
	sets    *greeting // what it sets for its session
	began   int64     // by package clock
	address string    // what the last network connection was made to
}

// connecting is the key of a value in the context under which pgx connects. When pgx dials for a cancel request, its context
// doesn't have it.
type connecting struct{}

// beforeConnect is stdlib's hook before it connects. cc is a copy of the pool's configuration for this connection alone: it
// gets the credentials, the authorities for TLS, and everything by which the connection is watched.
func (d *dialling) beforeConnect(_ context.Context, cc *pgx.ConnConfig) error {
	cc.RuntimeParams = d.sets.params // which all dials share
	setLogin(cc, d.conn.login)
	d.refreshTLS(cc)
	c := d.conn
	d.keepGiven(cc)
	d.validate(cc)
	cc.Tracer, cc.OnNotice = d.tracer(cc), d.onNotice(cc)
	if cc.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		cc.DescriptionCacheCapacity = min(cc.DescriptionCacheCapacity, describedTexts)
	}
	cc.ConnectTimeout = d.cfg.ConnectTimeout
	cc.BuildFrontend = d.buildFrontend(cc)
	cc.BuildContextWatcherHandler = func(pg *pgconn.PgConn) ctxwatch.Handler {
		c.guard.Attach(pg)
		return c.guard
	}
	d.useDialFunc(cc)
	d.leg.only(cc)
	cc.DialFunc = d.connectOrCancel(cc.DialFunc)
	if d.check != nil {
		d.check.adapt(cc)
	}
	return nil
}

// adapt changes the configuration of a health check's connection: its application_name, so that it can be told from the pool's on
// the server.
func (k *Check) adapt(cc *pgx.ConnConfig) {
	const suffix, longest = " (pgprod check)", 63
	if name := cc.RuntimeParams["application_name"]; name != "" {
		cc.RuntimeParams = maps.Clone(cc.RuntimeParams) // pgx hands out the map that all dials share
		cc.RuntimeParams["application_name"] = name[:min(len(name), longest-len(suffix))] + suffix
	}
}

// afterConnect is stdlib's hook after the server has accepted the login. It applies server_settings, and calls the
// application's function. If one of them fails it closes the connection, since stdlib doesn't do so when a hook fails.
func (d *dialling) afterConnect(_ context.Context, pc *pgx.Conn) error {
	c, ctx := d.conn, d.race.ctx
	c.pgx, c.pg = pc, pc.PgConn()
	c.saysRole = d.believes()
	c.backend.address = d.address // for what the observer hears from now on
	c.probe = wire.NewProbe(c.pg.Conn())
	if err := applySettings(ctx, c.pg, d.sets.set); err != nil {
		_ = pc.Close(ctx)
		return fmt.Errorf("server_settings: %w", err)
	}
	return d.setUp(ctx, pc)
}

// applySettings sets all settings for the session in one round trip.
func applySettings(ctx context.Context, pg *pgconn.PgConn, all []settings.Setting) error {
	if len(all) == 0 {
		return nil
	}
	text, parameters := setForSession(all)
	return pg.ExecParams(ctx, text, parameters, nil, nil, nil).Read().Err
}

// setForSession returns a statement that sets all settings for the session, and its parameters.
func setForSession(all []settings.Setting) (text string, parameters [][]byte) {
	for _, s := range all {
		parameters = append(parameters, []byte(s.Name), []byte(s.Value))
	}
	return settingText(len(all), false), parameters
}

// connectOrCancel returns the function by which pgx makes network connections. pgx calls it to connect, and later for cancel
// requests: when the guard asks for one, and of its own accord when it closes a connection that has failed. The latter
// happens in a goroutine of pgx's, perhaps for a first host while the next one is being dialled, so that it must not change
// d.
func (d *dialling) connectOrCancel(connect pgconn.DialFunc) pgconn.DialFunc {
	c := d.conn
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if ctx.Value(connecting{}) == nil {
			return c.dialToCancel(ctx, connect, network, addr)
		}
		nc, err := connect(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		d.address = addr
		if d.check != nil && d.check.Heard != nil {
			nc = &listener{nc, d.leg}
		}
		return nc, nil
	}
}

// dialToCancel makes the network connection for a cancel request. Dialling may take guard.CancelGrace, and sending the
// request as long again; pgx would take up to 15 seconds. It fails while a COMMIT may be under way, which must not be
// cancelled, and on a connection that was severed.
func (c *Conn) dialToCancel(ctx context.Context, connect pgconn.DialFunc, network, addr string) (net.Conn, error) {
	if c.guard.Sparing() {
		return nil, errSparing
	}
	if err := c.tap.Severed(); err != nil { // nobody would answer
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, guard.CancelGrace)
	defer cancel()
	nc, err := connect(ctx, network, addr)
	if err == nil {
		_ = nc.SetDeadline(time.Now().Add(guard.CancelGrace))
	}
	return nc, err
}

// A listener is the network connection of a health check. It notes when the server has sent something, unless the connection is of
// no use.
type listener struct {
	net.Conn
	leg *leg
}

var _ net.Conn = (*listener)(nil)

// Read implements net.Conn.
func (l *listener) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if n > 0 && !l.leg.lane.race.lost(l.leg) {
		now := clock.Now()
		l.leg.heard.Store(now)
		l.leg.lane.race.check.Heard.Store(now)
	}
	return n, err
}

// forget is called when a leg of a check has ended. What its server has sent, which turned out to be of no use, doesn't count any
// more.
func (k *Check) forget(g *leg) {
	if last := g.heard.Load(); last != 0 && k.Heard != nil {
		k.Heard.CompareAndSwap(last, 0)
	}
}

// refreshTLS reads the file with the authorities by which the server's certificate is checked (sslrootcert, PGSSLROOTCERT)
// anew for each dial, because it may have been replaced since pgx read it when the DSN was parsed. The client's certificate
// and key are read by pgx at each handshake. If the file can't be read, because it is just being replaced, the last content
// that could be read is used, and not that of the beginning, which may be outdated by now.
func (d *Dialer) refreshTLS(cc *pgx.ConnConfig) {
	if !d.usesTLS || d.cfg.Given.Conn != nil { // a configuration from code may have changed what its DSN says
		return
	}
	reread, err := pgx.ParseConfig(cc.ConnString())
	if err == nil && len(reread.Fallbacks) == len(cc.Fallbacks) {
		d.lastTLS.Store(reread)
	} else if reread = d.lastTLS.Load(); reread == nil {
		return
	}
	cc.Config = *cc.Config.Copy() // all dials share the original, and a *tls.Config that is cloned otherwise loses its certificate
	trustAs(cc.TLSConfig, reread.TLSConfig)
	for i, fallback := range cc.Fallbacks {
		trustAs(fallback.TLSConfig, reread.Fallbacks[i].TLSConfig)
	}
}

// trustAs makes tc trust the same authorities as source. Either is nil where there is no TLS.
func trustAs(tc, source *tls.Config) {
	if tc != nil && source != nil {
		tc.RootCAs, tc.VerifyPeerCertificate = source.RootCAs, source.VerifyPeerCertificate
	}
}
