package doctor

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/settings"
)

// A host is one host of the DSN.
type host struct{ settings.Host }

// name is what a host is called: host:port, or the path of a socket.
func (h host) name() string {
	network, addr := h.address()
	if network == "unix" {
		return addr
	}
	return net.JoinHostPort(h.Host.Host, strconv.Itoa(int(h.Port)))
}

// address is where a host is, before its name is resolved.
func (h host) address() (network, addr string) { return pgconn.NetworkAddress(h.Host.Host, h.Port) }

// only returns the settings for this host alone. If addr isn't empty, its name resolves to that address only.
func (h host) only(cfg *settings.Config, addr string) *settings.Config {
	alone := *cfg
	alone.Conn = cfg.Conn.Copy()
	cc := alone.Conn
	// The copy keeps the client's certificate with each *tls.Config that it has made, so the ways must come from it. There
	// are two where TLS is optional.
	ways := slices.DeleteFunc(waysOf(cc), func(way *pgconn.FallbackConfig) bool {
		return settings.Host{Host: way.Host, Port: way.Port} != h.Host
	})
	cc.Host, cc.Port, cc.TLSConfig, cc.Fallbacks = ways[0].Host, ways[0].Port, ways[0].TLSConfig, ways[1:]
	if addr != "" {
		cc.LookupFunc = func(context.Context, string) ([]string, error) { return []string{addr}, nil }
	}
	return &alone
}

// waysOf returns all that pgx tries for a connection, in this order.
func waysOf(cc *pgx.ConnConfig) []*pgconn.FallbackConfig {
	first := &pgconn.FallbackConfig{Host: cc.Host, Port: cc.Port, TLSConfig: cc.TLSConfig}
	return append([]*pgconn.FallbackConfig{first}, cc.Fallbacks...)
}

// host looks at one host: its name, each of its addresses, and the server there.
func (e *examination) host(ctx context.Context, h host) {
	p := place{e, h.name()}
	addrs, ok := p.resolve(ctx, h)
	if !ok {
		p.skipRest("the name can't be resolved")
		return
	}
	examined := false
	for _, a := range p.reachable(ctx, h, addrs) {
		examined = a.visit(ctx, h.only(e.cfg, a.addr), examined) || examined
	}
}

// skipRest says that nothing else can be looked at here.
func (p place) skipRest(why string) {
	p.skip("server", "neither it nor what it tells was looked at: %s", why)
}

// An address is one of a host's.
type address struct {
	place
	addr string // "" for a socket
}

// reachable makes a network connection to each address of a host, says how that went, and returns those that accepted one.
// That an address doesn't is a failure only if none does: a pool uses the others.
func (p place) reachable(ctx context.Context, h host, addrs []string) (answering []address) {
	type refusal struct {
		place
		err error
	}
	var refusals []refusal
	for _, addr := range addrs {
		at := p
		if len(addrs) > 1 {
			at.host += " (" + addr + ")"
		}
		if err := at.touch(ctx, h, addr); err != nil {
			refusals = append(refusals, refusal{at, err})
		} else {
			answering = append(answering, address{at, addr})
		}
	}
	for _, r := range refusals {
		if len(answering) > 0 {
			r.warn("network", "a pool uses the host's other addresses: look at DNS", "%v", r.err)
			continue
		}
		r.fail("network", pgerror.Advice(r.err, ""), "%v", r.err)
	}
	if len(answering) == 0 {
		p.skipRest("it can't be reached")
	}
	return answering
}

// resolve finds the addresses of a host. There is one, "", for a socket.
func (p place) resolve(ctx context.Context, h host) ([]string, bool) {
	if network, _ := h.address(); network == "unix" {
		return []string{""}, true
	}
	name := h.Host.Host
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	start := time.Now()
	addrs, err := p.cfg.Conn.LookupFunc(ctx, name)
	if err != nil || len(addrs) == 0 {
		p.fail("name", "look at the DSN and at DNS", "%s can't be resolved: %v", name, err)
		return nil, false
	}
	if net.ParseIP(name) == nil {
		p.ok("name", "%s is %s, found within %v", name, strings.Join(addrs, ", "), short(time.Since(start)))
	}
	return addrs, true
}

// touch makes a network connection to an address and closes it. It returns an error if that fails.
func (p place) touch(ctx context.Context, h host, addr string) error {
	network, target := h.address()
	if addr != "" {
		target = addr
		if _, _, err := net.SplitHostPort(addr); err != nil { // a lookup function may give a port as well
			network, target = pgconn.NetworkAddress(addr, h.Port)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.ConnectTimeout)
	defer cancel()
	start := time.Now()
	nc, err := p.cfg.Conn.DialFunc(ctx, network, target)
	if err != nil {
		return err
	}
	took := time.Since(start)
	_ = nc.Close()
	p.ok("network", "accepts a connection (%s) within %v", network, short(took))
	return nil
}
