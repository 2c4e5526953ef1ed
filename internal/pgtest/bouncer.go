package pgtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/pgprod/pgprod/internal/pgtest/loopback"
)

// A Bouncer is a PgBouncer in front of a server, on a port of its own that it keeps across restarts. Its methods fail the
// test that has started it. It is not safe for concurrent use.
type Bouncer struct {
	t       testing.TB
	server  *Server
	path    string // of the program
	account account
	home    *home
	port    int
	proc    *process
}

// bouncerConfig is its configuration: the server's port, its own, its home, and the mode of pooling.
const bouncerConfig = `[databases]
* = host=127.0.0.1 port=%[1]d
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %[2]d
unix_socket_dir =
auth_type = trust
auth_file = %[3]s/users.txt
admin_users = postgres
pool_mode = %[4]s
default_pool_size = 3
max_client_conn = 200
server_login_retry = 0.1
logfile = %[3]s/log
`

// StartBouncer starts a PgBouncer that pools by mode, as transaction or session, and has three connections to each of the
// server's databases for all its clients. It knows the users postgres and tenants. more are further lines of its
// configuration. The end of the test ends it. If it isn't installed the test fails.
func StartBouncer(t testing.TB, server *Server, mode string, more ...string) *Bouncer {
	t.Helper()
	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		path = "/usr/sbin/pgbouncer" // which is not in everybody's PATH
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal("this test needs PgBouncer: apt-get install pgbouncer")
	}
	b := &Bouncer{t: t, server: server, path: path}
	b.account, err = serverAccount() // PgBouncer doesn't run as root either
	b.must(err)
	b.home, err = newHome(b.account)
	b.must(err)
	t.Cleanup(func() { _ = b.home.remove() })
	b.port, err = loopback.FreePort()
	b.must(err)
	config := fmt.Sprintf(bouncerConfig, server.Port(), b.port, b.home.path, mode) + strings.Join(more, "\n") + "\n"
	const users = "\"postgres\" \"\"\n\"tenants\" \"\"\n"
	for file, content := range map[string]string{"users.txt": users, "pgbouncer.ini": config} {
		b.must(b.account.writeFile(filepath.Join(b.home.path, file), []byte(content)))
	}
	b.Start()
	t.Cleanup(b.Kill)
	return b
}

// must fails the test if there is an error.
func (b *Bouncer) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// Start starts it again after Kill, and returns when it listens.
func (b *Bouncer) Start() {
	b.t.Helper()
	cmd := command(context.Background(), b.account, b.home.path, b.path, "-q", filepath.Join(b.home.path, "pgbouncer.ini"))
	var err error
	b.proc, err = startProcess(cmd, nil)
	b.must(err)
	Eventually(b.t, testTimeout, func() bool {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(b.port)))
		if err == nil {
			_ = conn.Close()
		}
		return err == nil || b.proc.ended()
	}, "PgBouncer doesn't listen")
	if b.proc.ended() {
		b.t.Fatalf("PgBouncer has ended: %v\n%s", b.proc.err, b.Log())
	}
}

// Kill ends it without a goodbye to anybody. More than once is harmless.
func (b *Bouncer) Kill() {
	_ = b.proc.signal(syscall.SIGKILL)
	<-b.proc.done
}

// Log is what it has logged.
func (b *Bouncer) Log() string {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(b.home.path, "log"))
	b.must(err)
	return string(text)
}

// Version is what the program says of itself, as 1 and 18.
func (b *Bouncer) Version() (major, minor int) {
	b.t.Helper()
	out, err := exec.Command(b.path, "--version").Output()
	b.must(err)
	_, err = fmt.Sscanf(string(out), "PgBouncer %d.%d", &major, &minor)
	b.must(err)
	return major, minor
}

// DSN returns the URL of a database, through PgBouncer.
func (b *Bouncer) DSN(database string) string {
	return strings.Replace(b.server.DSN(database), fmt.Sprintf(":%d/", b.server.Port()), fmt.Sprintf(":%d/", b.port), 1)
}
