//go:build lab

package rivals

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// An autoFailover is a cluster that pg_auto_failover manages: a monitor and three nodes.
type autoFailover struct {
	t       *testing.T
	program string
	monitor *node
	nodes   []*node
}

// impatience makes the monitor notice a dead node as soon as it can: it asks every half second, and a node counts as dead that
// has neither answered nor reported for two. By default these are 5 s and 20 s.
var impatience = []string{
	"alter system set pgautofailover.health_check_period = 500",
	"alter system set pgautofailover.health_check_timeout = 500",
	"alter system set pgautofailover.health_check_max_retries = 1",
	"alter system set pgautofailover.health_check_retry_delay = 250",
	"alter system set pgautofailover.node_considered_unhealthy_timeout = 2000",
	"alter system set pgautofailover.primary_demote_timeout = 2000",
	"alter system set pgautofailover.startup_grace_period = 1000",
	"select pg_reload_conf()",
}

func startAutoFailover(t *testing.T) *autoFailover {
	t.Helper()
	needServer(t)
	a := &autoFailover{t: t, program: find(t, "pg_autoctl"), monitor: &node{name: "monitor", address: address(t, 2, 9)}}
	a.create(a.monitor, "monitor")
	a.monitor.program.await("it answers", func() bool { return answers(a.monitor) })
	a.configure(a.monitor, impatience)
	for i := range 3 {
		n := &node{name: fmt.Sprintf("node%d", i+1), address: address(t, 2, i+1)}
		a.nodes = append(a.nodes, n)
		a.create(n, "postgres", "--name", n.name, "--monitor",
			"postgres://autoctl_node@"+a.monitor.address+"/pg_auto_failover?sslmode=disable")
		n.program.await("it answers", func() bool { return answers(n) })
	}
	return a
}

// create starts a node, which first makes itself.
func (a *autoFailover) create(n *node, kind string, more ...string) {
	home := pgtest.HomeTB(a.t)
	host, port, err := net.SplitHostPort(n.address)
	require.NoError(a.t, err)
	args := append([]string{a.program, "create", kind, "--pgdata", filepath.Join(home, "data"), "--pgctl", binDir + "/pg_ctl",
		"--hostname", host, "--pgport", port, "--skip-pg-hba", "--no-ssl", "--run"}, more...)
	n.program = start(a.t, home, "pg_autoctl", args...)
}

// configure executes statements on a node.
func (a *autoFailover) configure(n *node, statements []string) {
	ctx, cancel := context.WithTimeout(a.t.Context(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, n.dsn())
	require.NoError(a.t, err)
	defer conn.Close(ctx)
	for _, text := range statements {
		_, err := conn.Exec(ctx, text)
		require.NoError(a.t, err, text)
	}
}

func (a *autoFailover) whole(primary *node) { streaming(a.t, primary, len(a.nodes)-1) }

func (a *autoFailover) switchover(*node) {
	home := a.monitor.program.home
	run(a.t, home, a.program, "perform", "switchover", "--pgdata", filepath.Join(home, "data"))
}

func TestPgAutoFailoverSwitchesOverAndFailsOver(t *testing.T) {
	a := startAutoFailover(t)
	tab := &table{name: "pg_auto_failover"}
	compare(t, cluster{nodes: a.nodes, clients: through("", hosts(a.nodes)), whole: a.whole, faults: []fault{
		{name: "switchover", planned: true, inject: a.switchover},
		{name: "kill -9 of the node", inject: func(n *node) { n.program.kill() }, mend: func(n *node) { n.program.again() }},
	}}, *runs, tab)
	tab.judge(t)
}
