//go:build lab

package rivals

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// pgpoolConfig is pgpool-II's in streaming replication mode: its address and home, the servers' ports and data directories.
// It asks the servers each second; a lost connection makes it fail over at once (failover_on_backend_error, its default).
const pgpoolConfig = `
backend_clustering_mode = 'streaming_replication'
listen_addresses = '%[1]s'
port = %[2]s
unix_socket_directories = '%[3]s'
pcp_listen_addresses = ''
pcp_socket_dir = '%[3]s'
pcp_port = %[4]s
work_dir = '%[3]s'
logdir = '%[3]s'
pid_file_name = '%[3]s/pgpool.pid'
wd_ipc_socket_dir = '%[3]s'
backend_hostname0 = '127.0.0.1'
backend_port0 = %[5]d
backend_data_directory0 = '%[6]s'
backend_hostname1 = '127.0.0.1'
backend_port1 = %[7]d
backend_data_directory1 = '%[8]s'
num_init_children = 120
max_pool = 1
enable_pool_hba = off
load_balance_mode = off
sr_check_period = 1
sr_check_user = 'postgres'
sr_check_database = 'postgres'
health_check_period = 1
health_check_timeout = 1
health_check_max_retries = 0
health_check_user = 'postgres'
health_check_database = 'postgres'
failover_command = '%[3]s/promote.sh "%%D" "%%H" "%%P" "%%d"'
`

// promoteScript is the failover_command: it promotes the new primary if the old one is what has failed. Its arguments are the
// data directory of what failed, the host of the new primary, the numbers of the old primary and of what failed.
var promoteScript = `#!/bin/sh
[ "$3" = "$4" ] || exit 0
exec ` + binDir + `/pg_ctl promote -D '%s' -w
`

// A pgpool is a primary and a standby, with pgpool-II in front.
type pgpool struct {
	t       *testing.T
	servers []*pgtest.Server
	nodes   []*node
	front   *node
}

func startPgpool(t *testing.T) *pgpool {
	t.Helper()
	needServer(t)
	t.Setenv("PG_BINDIR", binDir)
	common := map[string]string{"synchronous_commit": "on", "max_connections": "300"}
	primary := pgtest.StartTB(t, pgtest.Config{Settings: common})
	standby := pgtest.StartTB(t, pgtest.Config{Settings: common, StandbyOf: primary})
	for _, text := range []string{"alter system set synchronous_standby_names = '*'", "select pg_reload_conf()"} {
		require.NoError(t, primary.Exec(t.Context(), text)) // only now, so that the standby, when it is promoted, waits for nobody
	}
	p := &pgpool{t: t, servers: []*pgtest.Server{primary, standby}, front: &node{name: "pgpool", address: address(t, 3, 9)}}
	for i, s := range p.servers {
		p.nodes = append(p.nodes, &node{name: fmt.Sprintf("node%d", i+1), address: net.JoinHostPort(s.Host(), strconv.Itoa(s.Port()))})
	}
	p.start()
	return p
}

// start starts pgpool-II.
func (p *pgpool) start() {
	t, home, primary, standby := p.t, pgtest.HomeTB(p.t), p.servers[0], p.servers[1]
	host, port, err := net.SplitHostPort(p.front.address)
	require.NoError(t, err)
	_, control, err := net.SplitHostPort(address(t, 3, 9))
	require.NoError(t, err)
	for name, text := range map[string]string{
		"pgpool.conf": fmt.Sprintf(pgpoolConfig, host, port, home, control, standby.Port(), standby.DataDir(), primary.Port(),
			primary.DataDir()),
		"pool_hba.conf": "", "pcp.conf": "",
		"promote.sh": fmt.Sprintf(promoteScript, standby.DataDir()),
	} {
		pgtest.WriteFileTB(t, filepath.Join(home, name), text)
	}
	p.front.program = start(t, home, "pgpool", find(t, "pgpool"), "-n", "-f", filepath.Join(home, "pgpool.conf"),
		"-a", filepath.Join(home, "pool_hba.conf"), "-F", filepath.Join(home, "pcp.conf"))
	p.front.program.await("it leads to a server", func() bool { return answers(p.front) })
}

// whole is a look at the beginning only: once the standby is promoted, it has none of its own.
func (p *pgpool) whole(primary *node) {
	if primary == p.nodes[0] {
		streaming(p.t, primary, 1)
	}
}

func TestPgpoolFailsOver(t *testing.T) {
	tab := &table{name: "pgpool-II"}
	for i := range *runs { // each with servers of its own, since pgpool-II doesn't bring a failed server back by itself
		t.Run(fmt.Sprint(i+1), func(t *testing.T) {
			p := startPgpool(t)
			clients := append(through("", hosts(p.nodes)), through("pgpool-II", p.front.dsn())...)
			clients = append(clients, through("pgpool-II, read-write", hosts([]*node{p.front}))...)
			compare(t, cluster{nodes: p.nodes, clients: clients, whole: p.whole, faults: []fault{
				{name: "kill -9 of the server", inject: func(*node) { require.NoError(t, p.servers[0].Crash()) }},
			}}, 1, tab)
		})
	}
	tab.judge(t)
}
