package link

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/settings"
	"github.com/pgprod/pgprod/internal/wire"
)

// Hooks are what a dialer and its connections call.
type Hooks struct {
	Password func(context.Context) (string, error)        // nil: as the settings say
	Notice   func(*pgconn.Notice)                         // nil: nobody wants to hear them
	Target   func(instruments.Server) *instruments.Target // telemetry's view of the server that was reached
	Tagged   bool                                         // statements come with the tags of package sqlcomment
}

// A Dialer makes the connections of one pool, and has what they share. It is safe for concurrent use.
type Dialer struct {
	cfg    *settings.Config // not changed
	hooks  Hooks
	life   context.Context    // ends with the pool
	server instruments.Server // the first that the DSN names

	passwords  passwordCalls
	usesTLS    bool                           // with some host
	lastTLS    atomic.Pointer[pgx.ConnConfig] // the last whose certificates could be read; nil until the first dial
	schema     atomic.Uint64                  // counts the changes of the schema that the pool's connections have seen
	parameters parameterCounts
}

// NewDialer returns a dialer. It ends the application's password function when life ends.
func NewDialer(life context.Context, cfg *settings.Config, hooks Hooks) *Dialer {
	return &Dialer{
		cfg: cfg, hooks: hooks, life: life,
		server: instruments.Server{Address: cfg.Conn.Host, Port: int(cfg.Conn.Port),
			Namespace: cmp.Or(cfg.Conn.Database, cfg.Conn.User)}, // the server takes the user's name for one that isn't given
		usesTLS: cfg.Conn.TLSConfig != nil || slices.ContainsFunc(cfg.Conn.Fallbacks,
			func(f *pgconn.FallbackConfig) bool { return f.TLSConfig != nil }),
	}
}

// Limit bounds one dial as a whole: pgx counts connect_timeout for each address that a name resolves to, and not at all
// for the resolver, the password function and the settings.
func (d *Dialer) Limit() time.Duration {
	hosts := 1 + len(d.cfg.Conn.Fallbacks)
	return min(d.cfg.ConnectTimeout, 24*time.Hour) * time.Duration(hosts+1)
}

// OnlyServer is the server that the DSN names; of several, which one it will be isn't known before it is reached.
func (d *Dialer) OnlyServer() instruments.Server {
	s := d.server
	for _, f := range d.cfg.Conn.Fallbacks { // a host occurs twice where TLS is optional
		if f.Host != d.cfg.Conn.Host || f.Port != d.cfg.Conn.Port {
			s.Address, s.Port = "", 0
		}
	}
	return s
}

// A Check is how a health check connects: outside the pool, and without statements of the application's.
type Check struct {
	Hasty    time.Duration // what each host gets of the time; 0: as much as for a dial
	Anywhere bool          // any server will do, whatever target_session_attrs says
	Heard    *atomic.Int64 // by package clock: when the server that is being asked last sent something; 0: it has not
}

// Dial makes a connection. check is nil for one of the pool's.
func (d *Dialer) Dial(ctx context.Context, observer Observer, check *Check) (*Conn, error) {
	c := &Conn{dialer: d, observer: observer, prepared: prepared{schema: d.schema.Load()}}
	c.guard = guard.New(func() bool { return check != nil || c.tap.Answered() })
	one := &dial{Dialer: d, conn: c, check: check, hosts: map[string][]string{}}
	std, err := stdlib.GetConnector(*d.cfg.Conn,
		stdlib.OptionBeforeConnect(one.prepare),
		stdlib.OptionAfterConnect(one.configure),
	).Connect(context.WithValue(ctx, connecting{}, true))
	if err != nil {
		return nil, err
	}
	c.std = std.(*stdlib.Conn)
	c.target = d.hooks.Target(one.server)
	c.heard.Store(clock.Now())
	return c, nil
}

// A dial is the making of one connection, as seen by pgx, which calls it back at each step.
type dial struct {
	*Dialer
	conn   *Conn
	check  *Check              // nil: the connection is for the pool
	hosts  map[string][]string // by the addresses that they resolved to
	server instruments.Server  // that was reached last
}

// connecting marks the context under which pgx connects. It dials under others for cancel requests.
type connecting struct{}

// prepare hooks the connection into its pgx configuration, of which it gets a copy.
func (d *dial) prepare(ctx context.Context, cc *pgx.ConnConfig) error {
	password, err := d.password(ctx)
	if err != nil {
		return err
	}
	if password != "" {
		cc.Password = password
	}
	d.refreshTLS(cc)
	c := d.conn
	cc.Tracer = c
	cc.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { c.noticed(n) }
	if cc.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		cc.DescriptionCacheCapacity = min(cc.DescriptionCacheCapacity, describedTexts)
	}
	cc.ConnectTimeout = d.cfg.ConnectTimeout
	cc.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		c.tap = wire.NewTap(r, w, c.guard.ReadAgain)
		return pgproto3.NewFrontend(c.tap, c.tap)
	}
	cc.BuildContextWatcherHandler = func(pg *pgconn.PgConn) ctxwatch.Handler {
		c.guard.Watch(pg)
		return c.guard
	}
	cc.LookupFunc = d.lookup(cc.LookupFunc)
	cc.DialFunc = d.connectOrCancel(cc.DialFunc)
	if d.check != nil {
		d.check.adapt(cc)
	}
	return nil
}

// adapt changes how a connection is made that isn't for the pool.
func (k *Check) adapt(cc *pgx.ConnConfig) {
	const suffix, longest = " (pgprod check)", 63
	if name := cc.RuntimeParams["application_name"]; name != "" {
		cc.RuntimeParams = maps.Clone(cc.RuntimeParams) // pgx hands out the map that all dials share
		cc.RuntimeParams["application_name"] = name[:min(len(name), longest-len(suffix))] + suffix
	}
	if k.Hasty > 0 {
		cc.ConnectTimeout = min(cc.ConnectTimeout, k.Hasty)
	}
	if k.Anywhere {
		cc.ValidateConnect = nil
	}
}

// configure is called when the server has accepted the login. stdlib doesn't close a connection whose hook fails.
func (d *dial) configure(ctx context.Context, pc *pgx.Conn) error {
	c := d.conn
	c.pgx, c.pg = pc, pc.PgConn()
	c.probe = wire.NewProbe(c.pg.Conn())
	if err := set(ctx, c.pg, d.cfg.Set); err != nil {
		_ = pc.Close(ctx)
		return fmt.Errorf("server_settings: %w", err)
	}
	return nil
}

// set applies the settings in one round trip.
func set(ctx context.Context, pg *pgconn.PgConn, all []settings.Setting) error {
	if len(all) == 0 {
		return nil
	}
	var sql strings.Builder
	sql.WriteString("select ")
	params := make([][]byte, 0, 2*len(all))
	for i, s := range all {
		if i > 0 {
			sql.WriteString(", ")
		}
		fmt.Fprintf(&sql, "set_config($%d, $%d, false)", 2*i+1, 2*i+2)
		params = append(params, []byte(s.Name), []byte(s.Value))
	}
	return pg.ExecParams(ctx, sql.String(), params, nil, nil, nil).Read().Err
}

// lookup notes which name an address is of: of several hosts, telemetry names the one that was reached.
func (d *dial) lookup(lookup pgconn.LookupFunc) pgconn.LookupFunc {
	return func(ctx context.Context, host string) ([]string, error) {
		addrs, err := lookup(ctx, host)
		for _, addr := range addrs {
			d.hosts[addr] = append(d.hosts[addr], host)
		}
		return addrs, err
	}
}

// connectOrCancel is pgx's DialFunc. pgx calls it to connect, and later on for cancel requests: when a guard asks for one,
// and by itself when it closes a connection that has failed, from a goroutine of its own, perhaps for a first host while
// the next one is being dialled.
func (d *dial) connectOrCancel(dial pgconn.DialFunc) pgconn.DialFunc {
	c := d.conn
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if ctx.Value(connecting{}) == nil {
			return c.dialToCancel(ctx, dial, network, addr)
		}
		nc, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		d.reached(network, addr)
		if d.check != nil {
			nc = d.check.listenTo(nc)
		}
		return nc, nil
	}
}

// dialToCancel bounds the connection of a cancel request: dialling by guard.CancelGrace, and what follows by the same
// again. Left to itself, pgx would take 15 seconds. While a COMMIT may be under way there are no cancel requests.
func (c *Conn) dialToCancel(ctx context.Context, dial pgconn.DialFunc, network, addr string) (net.Conn, error) {
	if c.guard.Sparing() {
		return nil, errSparing
	}
	ctx, cancel := context.WithTimeout(ctx, guard.CancelGrace)
	defer cancel()
	nc, err := dial(ctx, network, addr)
	if err == nil {
		_ = nc.SetDeadline(time.Now().Add(guard.CancelGrace))
	}
	return nc, err
}

// reached notes the server that was dialled.
func (d *dial) reached(network, addr string) {
	d.server = d.Dialer.server
	if network == "unix" {
		d.server.Address = filepath.Dir(addr)
		d.server.Port, _ = strconv.Atoi(strings.TrimPrefix(filepath.Ext(addr), ".")) // .s.PGSQL.5432
		return
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return
	}
	d.server.Port, _ = strconv.Atoi(port)
	d.server.Address = d.nameOf(host, d.server.Port)
}

// nameOf is the name in the DSN of the address that was dialled. Several may resolve to it; the port tells which.
func (d *dial) nameOf(addr string, port int) string {
	cc := d.cfg.Conn
	for _, name := range d.hosts[addr] {
		if name == cc.Host && port == int(cc.Port) {
			return name
		}
		for _, f := range cc.Fallbacks {
			if name == f.Host && port == int(f.Port) {
				return name
			}
		}
	}
	return addr
}

// A listener is the network connection of a check, which notes when it hears something.
type listener struct {
	net.Conn
	heard *atomic.Int64
}

// listenTo has a check note what it hears on a connection that was dialled just now. What was heard of the host before,
// which turned out to be of no use, doesn't count.
func (k *Check) listenTo(nc net.Conn) net.Conn {
	k.Heard.Store(0)
	return listener{nc, k.Heard}
}

// Read implements net.Conn.
func (l listener) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if n > 0 {
		l.heard.Store(clock.Now())
	}
	return n, err
}

// refreshTLS reads the authorities anew that the server's certificate is checked by: pgx has read those that the DSN or
// PGSSLROOTCERT names when it was opened, and they are rotated like passwords. (The client's certificate and key pgx reads
// itself, at each handshake.) While the files can't be read, since they are being replaced, the last ones serve that could
// be; those of the beginning may be out of use by now.
func (d *Dialer) refreshTLS(cc *pgx.ConnConfig) {
	if !d.usesTLS {
		return
	}
	now, err := pgx.ParseConfig(cc.ConnString())
	if err == nil && len(now.Fallbacks) == len(cc.Fallbacks) {
		d.lastTLS.Store(now)
	} else if now = d.lastTLS.Load(); now == nil {
		return
	}
	cc.Config = *cc.Config.Copy() // all dials share the original, and a *tls.Config that is cloned otherwise loses its certificate
	trustAs(cc.TLSConfig, now.TLSConfig)
	for i, fallback := range cc.Fallbacks {
		trustAs(fallback.TLSConfig, now.Fallbacks[i].TLSConfig)
	}
}

// trustAs makes tc trust whom now trusts. Either is nil where there is no TLS.
func trustAs(tc, now *tls.Config) {
	if tc != nil && now != nil {
		tc.RootCAs, tc.VerifyPeerCertificate = now.RootCAs, now.VerifyPeerCertificate
	}
}
