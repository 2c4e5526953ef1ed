package pool

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strconv"
	"strings"
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

// Dial implements lease.Dialer: it makes a connection, which then lies on the shelf.
func (p *Pool) Dial(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, connecting{}, true), p.dialLimit())
	defer cancel()
	c := p.newConn()
	ctx, op := p.target(p.onlyServer()).BeginConnect(ctx)
	start := clock.Now()
	err := c.connect(ctx)
	if err == nil {
		c.target = p.target(c.server)
		op.Reached(c.target)
	}
	op.End(ctx, -1, err, "")
	if err != nil {
		failure := p.dialError(err)
		failure.final = p.isFinal(err)
		p.dialFailed(ctx, failure)
		return failure
	}
	p.doubts.End()
	p.diary.DialSucceeded(ctx)
	overflow := p.remember(c)
	c.dialled = clock.Now()
	c.expires = p.expiry(c.dialled) // not from its begin: a dial that takes longer than pool_recycle would be in vain
	c.proven.Store(c.dialled)
	c.returned = c.dialled
	p.in.Created(ctx, clock.Seconds(c.dialled-start))
	p.planPreflight()
	p.diary.Connected(ctx, c.pg.PID(), time.Duration(c.dialled-start), overflow)
	p.enter(c)
	return nil
}

// Dialled implements lease.Dialer: where nobody waits for what was dialled any more, what is beyond pool_size goes.
func (p *Pool) Dialled() {
	for p.size.Load() > int64(p.cfg.PoolSize) {
		c := p.takeBeyondSize()
		if c == nil {
			return
		}
		_ = c.handle.Close()
	}
}

// takeBeyondSize takes an idle connection out, if more than pool_size are idle, and writes it off. It returns nil if they
// aren't, or if somebody has just taken the connection, who will give it back.
func (p *Pool) takeBeyondSize() *conn {
	p.overflow.Lock()
	defer p.overflow.Unlock()
	if p.queue.Idle() <= p.cfg.PoolSize || !p.queue.TryAcquire() {
		return nil
	}
	defer p.queue.ReleaseAside()
	c := p.shelf.pop()
	if c != nil {
		p.writeOff(c, "overflow")
	}
	return c
}

func (p *Pool) newConn() *conn {
	c := &conn{
		pool:       p,
		generation: p.generation.Load(),
		plans:      plans{schema: p.schema.Load()},
		fresh:      true,
		names:      map[string][]string{},
	}
	c.guard = guard.New(func() bool { return c.inquiry != nil || c.tap.Quiet() })
	return c
}

func (p *Pool) dialError(cause error) *dialError {
	return &dialError{pool: p.cfg.PoolName, noDSN: p.cfg.NoDSN, passwordFrom: p.passwordFrom(), cause: cause}
}

// isFinal is called by Dial with the error of a dial that failed. It reports whether there is no use in trying again, which may
// depend on the dials before it. While the password can't be got there always is: the next dial asks for it again.
func (p *Pool) isFinal(err error) bool {
	if _, none := errors.AsType[*passwordError](err); none {
		p.doubts.End()
		return false
	}
	return p.doubts.IsFinal(err, p.rereadsPassword(), time.Now())
}

// Hopeless implements lease.Dialer. Dial has decided it.
func (p *Pool) Hopeless(err error) bool {
	var failure *dialError
	return errors.As(err, &failure) && failure.final
}

// dialLimit bounds one dial as a whole: pgx counts connect_timeout for each address that a name resolves to, and not at
// all for the resolver, the password function and the settings.
func (p *Pool) dialLimit() time.Duration {
	hosts := 1 + len(p.cfg.Conn.Fallbacks)
	return min(p.cfg.ConnectTimeout, 24*time.Hour) * time.Duration(hosts+1)
}

// expiry is when a connection made now is too old: up to a tenth earlier than pool_recycle says, so that those which
// were made together don't end together.
func (p *Pool) expiry(now int64) int64 {
	if p.cfg.PoolRecycle <= 0 {
		return 0
	}
	recycle := float64(p.cfg.PoolRecycle)
	return now + int64(recycle-recycle/10*rand.Float64())
}

func (c *conn) connect(ctx context.Context) error {
	dc, err := stdlib.GetConnector(*c.pool.cfg.Conn,
		stdlib.OptionBeforeConnect(c.prepareDial),
		stdlib.OptionAfterConnect(c.configure),
	).Connect(ctx)
	if err != nil {
		return err
	}
	c.std = dc.(*stdlib.Conn)
	return nil
}

// prepareDial hooks the connection into its pgx configuration, of which it gets a copy.
func (c *conn) prepareDial(ctx context.Context, cc *pgx.ConnConfig) error {
	password, err := c.pool.password(ctx)
	if err != nil {
		return err
	}
	if password != "" {
		cc.Password = password
	}
	c.pool.refreshTLS(cc)
	cc.Tracer = c
	cc.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { c.noticed(n) }
	if cc.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		cc.DescriptionCacheCapacity = min(cc.DescriptionCacheCapacity, describedTexts)
	}
	cc.ConnectTimeout = c.pool.cfg.ConnectTimeout
	cc.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		c.tap = wire.NewTap(r, w, c.guard.ReadAgain)
		return pgproto3.NewFrontend(c.tap, c.tap)
	}
	cc.BuildContextWatcherHandler = func(pg *pgconn.PgConn) ctxwatch.Handler {
		c.guard.Watch(pg)
		return c.guard
	}
	cc.LookupFunc = c.lookupFunc(cc.LookupFunc)
	cc.DialFunc = c.dialFunc(cc.DialFunc)
	if c.inquiry != nil {
		c.asProbe(cc)
	}
	return nil
}

// onlyServer is the server that the DSN names; of several, which one it will be isn't known before it is reached.
func (p *Pool) onlyServer() instruments.Server {
	s := p.server
	for _, f := range p.cfg.Conn.Fallbacks { // a host occurs twice where TLS is optional
		if f.Host != p.cfg.Conn.Host || f.Port != p.cfg.Conn.Port {
			s.Address, s.Port = "", 0
		}
	}
	return s
}

// lookupFunc notes which name an address is of: of several hosts, telemetry names the one that was reached.
func (c *conn) lookupFunc(lookup pgconn.LookupFunc) pgconn.LookupFunc {
	return func(ctx context.Context, host string) ([]string, error) {
		addrs, err := lookup(ctx, host)
		for _, addr := range addrs {
			c.names[addr] = append(c.names[addr], host)
		}
		return addrs, err
	}
}

// reached notes the server that was dialled.
func (c *conn) reached(network, addr string) {
	c.server = c.pool.server
	if network == "unix" {
		c.server.Address = filepath.Dir(addr)
		c.server.Port, _ = strconv.Atoi(strings.TrimPrefix(filepath.Ext(addr), ".")) // .s.PGSQL.5432
		return
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return
	}
	c.server.Port, _ = strconv.Atoi(port)
	c.server.Address = c.nameOf(host, c.server.Port)
}

// nameOf is the name in the DSN of the address that was dialled. Several may resolve to it; the port tells which.
func (c *conn) nameOf(addr string, port int) string {
	cc := c.pool.cfg.Conn
	for _, name := range c.names[addr] {
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

// connecting marks the context under which pgx connects. It dials under others for cancel requests.
type connecting struct{}

// dialFunc bounds the connections that pgx makes for cancel requests: dialling by guard.CancelGrace, and what follows by the
// same again. The one that follows a failure would have 15 seconds, and comes from a goroutine of its own, perhaps for a
// first host that failed while the next is being dialled. While a COMMIT may be under way there are none.
func (c *conn) dialFunc(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if ctx.Value(connecting{}) == nil {
			return c.dialToCancel(ctx, dial, network, addr)
		}
		nc, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c.reached(network, addr)
		if c.inquiry != nil {
			nc = c.inquiry.listenTo(nc)
		}
		return nc, nil
	}
}

func (c *conn) dialToCancel(ctx context.Context, dial pgconn.DialFunc, network, addr string) (net.Conn, error) {
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

// refreshTLS reads the authorities anew that the server's certificate is checked by: pgx has read those that the DSN or
// PGSSLROOTCERT names when it was opened, and they are rotated like passwords. (The client's certificate and key pgx reads
// itself, at each handshake.) While the files can't be read, since they are being replaced, the last ones serve that could
// be; those of the beginning may be out of use by now.
func (p *Pool) refreshTLS(cc *pgx.ConnConfig) {
	if !p.usesTLS {
		return
	}
	now, err := pgx.ParseConfig(cc.ConnString())
	if err == nil && len(now.Fallbacks) == len(cc.Fallbacks) {
		p.lastTLS.Store(now)
	} else if now = p.lastTLS.Load(); now == nil {
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

// configure is called when the server has accepted the login. stdlib doesn't close a connection whose hook fails.
func (c *conn) configure(ctx context.Context, pc *pgx.Conn) error {
	c.pgx, c.pg = pc, pc.PgConn()
	c.probe = wire.NewProbe(c.pg.Conn())
	if err := set(ctx, c.pg, c.pool.cfg.Set); err != nil {
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
