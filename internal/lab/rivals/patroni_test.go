//go:build lab

package rivals

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/loopback"
)

// patroniNode is Patroni's configuration of a node: the name, the address of its REST API, etcd's, the server's, its directory.
//
// ttl is the least that Patroni's manual allows; loop_wait and retry_timeout follow it down, so that a switchover begins soon.
// With primary_start_timeout 0 (once master_…) a server that has crashed is not started again where it was if there is another.
var patroniNode = `
scope: lab
name: %[1]s
restapi: {listen: '%[2]s', connect_address: '%[2]s'}
etcd3: {host: '%[3]s'}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 1
    retry_timeout: 3
    maximum_lag_on_failover: 1048576
    synchronous_mode: true
    master_start_timeout: 0
    primary_start_timeout: 0
    postgresql:
      use_pg_rewind: true
      parameters:
        max_connections: 300
        shared_buffers: 16MB
        fsync: 'off'
        dynamic_shared_memory_type: mmap
        wal_keep_size: 512MB
        autovacuum: 'off'
  initdb: [{auth: trust}, {encoding: UTF8}, no-sync]
postgresql:
  listen: '%[4]s'
  connect_address: '%[4]s'
  data_dir: %[5]s/data
  bin_dir: ` + binDir + `
  authentication:
    superuser: {username: postgres}
    replication: {username: postgres}
    rewind: {username: postgres}
  parameters: {unix_socket_directories: %[5]s}
  pg_hba: ['local all all trust', 'host all all 127.0.0.0/8 trust', 'host replication all 127.0.0.0/8 trust']
  pgpass: %[5]s/pgpass
`

// A patroni is a cluster that Patroni manages, with etcd for its memory.
type patroni struct {
	t     *testing.T
	nodes []*node
	apis  map[*node]string // host:port of its REST API
}

// address is a free one, of a machine of its own so to speak: 127.0.x.y.
func address(t testing.TB, x, y int) string {
	t.Helper()
	port, err := loopback.FreePort()
	require.NoError(t, err)
	return net.JoinHostPort(fmt.Sprintf("127.0.%d.%d", x, y), strconv.Itoa(port))
}

// startPatroni starts etcd and three nodes.
func startPatroni(t *testing.T) *patroni {
	t.Helper()
	needServer(t)
	etcd, program := startEtcd(t), find(t, "patroni")
	p := &patroni{t: t, apis: map[*node]string{}}
	for i := range 3 {
		n := &node{name: fmt.Sprintf("node%d", i+1), address: address(t, 1, i+1)}
		p.nodes, p.apis[n] = append(p.nodes, n), address(t, 1, i+1)
		home := pgtest.HomeTB(t)
		config := fmt.Sprintf(patroniNode, n.name, p.apis[n], etcd, n.address, home)
		pgtest.WriteFileTB(t, filepath.Join(home, "patroni.yml"), config)
		n.program = start(t, home, "patroni", program, filepath.Join(home, "patroni.yml"))
		if i == 0 {
			n.program.await("it is the primary", func() bool { return p.says(n, "GET", "/primary", "") == http.StatusOK })
		}
	}
	for _, n := range p.nodes[1:] {
		n.program.await("it is a replica", func() bool { return p.says(n, "GET", "/replica", "") == http.StatusOK })
	}
	return p
}

func startEtcd(t *testing.T) string {
	t.Helper()
	home, clients, peers := pgtest.HomeTB(t), address(t, 1, 9), address(t, 1, 9)
	etcd := start(t, home, "etcd", find(t, "etcd"), "--data-dir", filepath.Join(home, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls", "http://"+clients, "--advertise-client-urls", "http://"+clients,
		"--listen-peer-urls", "http://"+peers, "--initial-advertise-peer-urls", "http://"+peers,
		"--initial-cluster", "default=http://"+peers)
	t.Cleanup(etcd.kill) // it has nothing to clean up
	etcd.await("it is healthy", func() bool {
		resp, err := http.Get("http://" + clients + "/health")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return clients
}

// says asks a node's REST API, and returns the status of the answer; 0: there is none.
func (p *patroni) says(n *node, method, path, body string) int {
	req, err := http.NewRequestWithContext(p.t.Context(), method, "http://"+p.apis[n]+path, strings.NewReader(body))
	require.NoError(p.t, err)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// sync is the standby to which a switchover is allowed.
func (p *patroni) sync(primary *node) *node {
	for _, n := range p.nodes {
		if n != primary && p.says(n, "GET", "/sync", "") == http.StatusOK {
			return n
		}
	}
	return nil
}

func (p *patroni) whole(primary *node) {
	streaming(p.t, primary, len(p.nodes)-1)
	primary.program.await("there is a synchronous standby", func() bool { return p.sync(primary) != nil })
}

func (p *patroni) switchover(primary *node) {
	next := p.sync(primary)
	require.NotNil(p.t, next)
	status := p.says(primary, "POST", "/switchover", fmt.Sprintf(`{"leader": %q, "candidate": %q}`, primary.name, next.name))
	require.Equal(p.t, http.StatusOK, status)
}

// crash kills the server only: Patroni is there, and sees it.
func (p *patroni) crash(primary *node) {
	text := run(p.t, primary.program.home, "head", "-1", filepath.Join(primary.program.home, "data", "postmaster.pid"))
	pid, err := strconv.Atoi(strings.TrimSpace(text))
	require.NoError(p.t, err)
	for _, child := range append([]int{pid}, descendants(pid)...) {
		_ = syscall.Kill(child, syscall.SIGKILL) // it may have ended
	}
}

func TestPatroniSwitchesOverAndFailsOver(t *testing.T) {
	p := startPatroni(t)
	clients := through("", hosts(p.nodes))
	clients = append(clients, through("HAProxy", p.startHAProxy("3s", 3, 2))...)
	clients = append(clients, through("HAProxy that asks each 0.5 s", p.startHAProxy("500ms", 1, 1))...)
	tab := &table{name: "Patroni"}
	compare(t, cluster{nodes: p.nodes, clients: clients, whole: p.whole, faults: []fault{
		{name: "switchover", planned: true, inject: p.switchover},
		{name: "kill -9 of the server", inject: p.crash},
		{name: "kill -9 of server and Patroni, ttl 20 s", inject: func(n *node) { n.program.kill() },
			mend: func(n *node) { n.program.again() }},
	}}, *runs, tab)
	tab.judge(t)
}

// haproxyConfig is that of Patroni's manual: its address, how often it asks Patroni, how many answers change its mind either way.
const haproxyConfig = `
global
    maxconn 1000
    log stdout format raw local0
defaults
    mode tcp
    log global
    option tcplog
    retries 2
    timeout client 30m
    timeout connect 4s
    timeout server 30m
    timeout check 5s
listen primary
    bind %[1]s
    option httpchk GET /primary
    http-check expect status 200
    default-server inter %[2]s fall %[3]d rise %[4]d on-marked-down shutdown-sessions
`

// startHAProxy starts an HAProxy that leads to the primary, and returns the DSN. That asks for a primary too: until HAProxy
// notices, it leads to one that was demoted.
func (p *patroni) startHAProxy(inter string, fall, rise int) string {
	t := p.t
	t.Helper()
	home, front := pgtest.HomeTB(t), address(t, 1, 10)
	config := fmt.Sprintf(haproxyConfig, front, inter, fall, rise)
	for _, n := range p.nodes {
		_, port, err := net.SplitHostPort(p.apis[n])
		require.NoError(t, err)
		config += fmt.Sprintf("    server %s %s check port %s\n", n.name, n.address, port)
	}
	pgtest.WriteFileTB(t, filepath.Join(home, "haproxy.cfg"), config)
	proxy := start(t, home, "haproxy", find(t, "haproxy"), "-db", "-f", filepath.Join(home, "haproxy.cfg"))
	t.Cleanup(proxy.kill) // it has nothing to clean up, and takes SIGQUIT for a question
	n := &node{name: "haproxy", address: front}
	proxy.await("it leads to a primary", func() bool { return answers(n) })
	return hosts([]*node{n})
}

// answers reports whether a session can be had.
func answers(n *node) bool {
	_, err := standbysOf(n)
	pause(10 * time.Millisecond)
	return err == nil
}
