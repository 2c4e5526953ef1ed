//go:build lab

package rivals

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// pgpoolConfig is pgpool-II's in streaming replication mode: its address and home, the servers' ports and data directories. The
// first of the servers that are up is the one that it speaks for: its parameters and its process number are what clients get.
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
backend_application_name0 = 'walreceiver'
num_init_children = 80
max_pool = 1
enable_pool_hba = off
load_balance_mode = off
memory_cache_enabled = off
memqcache_total_size = 1MB
memqcache_max_num_cache = 100
sr_check_period = 1
sr_check_user = 'postgres'
sr_check_database = 'postgres'
health_check_period = 1
health_check_timeout = 1
health_check_max_retries = 0
health_check_user = 'postgres'
health_check_database = 'postgres'
auto_failback = on
auto_failback_interval = 1
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
	primary *pgtest.Server
	standby *pgtest.Server
	nodes   []*node
	front   *node
}

func startServers(t *testing.T) *pgpool {
	t.Helper()
	needServer(t)
	t.Setenv("PG_BINDIR", binDir)
	common := map[string]string{"synchronous_commit": "on", "max_connections": "300"}
	primary := pgtest.StartTB(t, pgtest.Config{Settings: common})
	standby := pgtest.StartTB(t, pgtest.Config{Settings: common, StandbyOf: primary})
	for _, text := range []string{"alter system set synchronous_standby_names = '*'", "select pg_reload_conf()"} {
		require.NoError(t, primary.Exec(t.Context(), text)) // only now, so that the standby, when it is promoted, waits for nobody
	}
	p := &pgpool{t: t, primary: primary, standby: standby, front: &node{name: "pgpool", address: address(t, 3, 9)}}
	for i, s := range []*pgtest.Server{primary, standby} {
		p.nodes = append(p.nodes, &node{name: fmt.Sprintf("node%d", i+1), address: net.JoinHostPort(s.Host(), strconv.Itoa(s.Port()))})
	}
	return p
}

// start starts pgpool-II, for the servers in this order.
func (p *pgpool) start(first, second *pgtest.Server) {
	t, home := p.t, pgtest.HomeTB(p.t)
	host, port, err := net.SplitHostPort(p.front.address)
	require.NoError(t, err)
	_, control, err := net.SplitHostPort(address(t, 3, 9))
	require.NoError(t, err)
	for name, text := range map[string]string{
		"pgpool.conf": fmt.Sprintf(pgpoolConfig, host, port, home, control, first.Port(), first.DataDir(), second.Port(),
			second.DataDir()),
		"pool_hba.conf": "", "pcp.conf": "",
		"promote.sh": fmt.Sprintf(promoteScript, p.standby.DataDir()),
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
			p := startServers(t)
			p.start(p.primary, p.standby)
			clients := append(through("", hosts(p.nodes)), through("pgpool-II", hosts([]*node{p.front}))...)
			compare(t, cluster{nodes: p.nodes, clients: clients, whole: p.whole, faults: []fault{
				{name: "kill -9 of the server", inject: func(*node) { require.NoError(t, p.primary.Crash()) }},
			}}, 1, tab)
		})
	}
	tab.judge(t)
}

// TestBehindPgpoolThePrimaryIsFoundWhicheverServerItSpeaksFor asks for a primary through a pgpool-II that reports the role and the
// process number of a standby, as it does when the standby is its first server.
func TestBehindPgpoolThePrimaryIsFoundWhicheverServerItSpeaksFor(t *testing.T) {
	p := startServers(t)
	require.NoError(t, p.standby.Shutdown(t.Context(), pgtest.Fast))
	require.NoError(t, p.primary.Exec(t.Context(), "set synchronous_commit = local; create table written (by text)"))
	p.start(p.standby, p.primary)
	require.Equal(t, "off", p.standbyReported(), "the primary alone")
	through := hosts([]*node{p.front}) + "&synchronous_commit=local"
	db, err := pgprod.Open(through, pgprod.WithPreflight(false), pgprod.WithPoolTimeout(5*time.Second))
	require.NoError(t, err)
	defer db.Close()
	write := func() {
		t.Helper()
		_, err := db.ExecContext(t.Context(), "insert into written values ('pgprod')")
		require.NoError(t, err)
	}
	write()
	require.NoError(t, p.standby.Resume(t.Context()))
	pgtest.Eventually(t, patience, func() bool { return p.standbyReported() == "on" }, "pgpool-II speaks for the standby")
	conn, err := pgx.Connect(t.Context(), through)
	require.NoError(t, err, "pgx finds it")
	require.NoError(t, conn.Close(t.Context()))
	write()
	require.NoError(t, pgprod.Recycle(db))
	write()
}

// standbyReported is what a client is told of in_hot_standby; "": there is no session.
func (p *pgpool) standbyReported() string {
	conn, err := pgx.Connect(p.t.Context(), p.front.dsn())
	if err != nil {
		return ""
	}
	defer conn.Close(p.t.Context())
	return conn.PgConn().ParameterStatus("in_hot_standby")
}
