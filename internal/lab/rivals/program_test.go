//go:build lab

package rivals

import (
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// patience is how long anything here may take, on a machine that is busy with something else.
const patience = 2 * time.Minute

// needed are the programs of this laboratory, and Debian's packages that have them.
var needed = map[string]string{
	"etcd": "etcd-server", "patroni": "patroni", "haproxy": "haproxy", "pgpool": "pgpool2", "pg_autoctl": "pg-auto-failover-cli",
}

// binDir is where the programs of PostgreSQL are: of the newest one that there is with pg_auto_failover's extension.
var binDir = findServer()

func findServer() string {
	extensions, _ := filepath.Glob("/usr/share/postgresql/*/extension/pgautofailover.control") // the only error is a bad pattern
	if len(extensions) == 0 {
		return ""
	}
	version := filepath.Base(filepath.Dir(filepath.Dir(extensions[len(extensions)-1])))
	return "/usr/lib/postgresql/" + version + "/bin"
}

// needServer fails the test if there is no PostgreSQL as this laboratory needs it.
func needServer(t testing.TB) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(binDir, "postgres")); binDir == "" || err != nil {
		t.Fatal("this test needs PostgreSQL with pg_auto_failover: apt-get install postgresql-15 postgresql-15-auto-failover" +
			" (or of the version that the distribution has)")
	}
}

// find returns the path of a program, or fails the test with the name of the package that has it.
func find(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin") {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	t.Fatalf("this test needs %s: apt-get install %s", name, needed[name])
	return ""
}

// A program is one that was started below a guard. Its methods fail the test that has started it.
type program struct {
	t     testing.TB
	home  string // its directory
	args  []string
	log   string // the file with its output
	input io.WriteCloser
	done  chan struct{} // closed when it and all that it has started have ended
}

// start starts a program in a directory, which the end of the test ends. Its name is that of its log.
func start(t testing.TB, home, name string, args ...string) *program {
	t.Helper()
	p := &program{t: t, home: home, args: args, log: filepath.Join(home, name+".log")}
	p.again()
	t.Cleanup(p.stop)
	return p
}

// again starts it when it has ended.
func (p *program) again() {
	p.t.Helper()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	require.NoError(p.t, err)
	defer log.Close()
	cmd := pgtest.CommandTB(p.t, p.home, "/proc/self/exe", p.args[1:]...)
	cmd.Args[0] = p.args[0]
	cmd.Env = append(cmd.Env, guardVariable+"=1", "HOME="+p.home, "TMPDIR="+p.home, "PATH="+binDir+":/usr/sbin:/usr/bin:/sbin:/bin",
		"XDG_CONFIG_HOME="+p.home, "XDG_DATA_HOME="+p.home, "XDG_RUNTIME_DIR="+p.home)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr.Pdeathsig = 0 // it sees the end of its input
	p.input, err = cmd.StdinPipe()
	require.NoError(p.t, err)
	require.NoError(p.t, cmd.Start())
	done := make(chan struct{})
	p.done = done
	go func() { // ends with the guard, which ends with this process
		_ = cmd.Wait()
		close(done)
	}()
}

// kill is a power failure: it and all that it has started end by SIGKILL. It returns when they have.
func (p *program) kill() {
	_, _ = io.WriteString(p.input, killWord) // it may have ended
	<-p.done
}

var keepLogs = flag.String("logs", "", "a directory for the logs of all programs")

// stop ends it and all that it has started. More than once is harmless.
func (p *program) stop() {
	_ = p.input.Close()
	<-p.done
	if *keepLogs != "" {
		text, _ := os.ReadFile(p.log)
		_ = os.WriteFile(filepath.Join(*keepLogs, filepath.Base(p.home)+"-"+filepath.Base(p.log)), text, 0o644)
	}
}

func (p *program) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// await waits until a condition holds; if it doesn't, or the program ends, the test fails with the end of its log.
func (p *program) await(what string, cond func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !cond(); {
		if p.ended() || time.Now().After(deadline) {
			p.t.Fatalf("%s: not so: %s; the log of %s ends with:\n%s", p.args[0], what, p.log, p.tail())
		}
		pause(20 * time.Millisecond)
	}
}

// tail is the end of its log.
func (p *program) tail() string {
	const most = 4000
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-most):]))
}

// run runs a program of the laboratory to its end, as the servers' account, and returns what it has written.
func run(t testing.TB, home string, args ...string) string {
	t.Helper()
	cmd := pgtest.CommandTB(t, home, args[0], args[1:]...)
	cmd.Env = append(cmd.Env, "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_DATA_HOME="+home, "XDG_RUNTIME_DIR="+home,
		"PATH="+binDir+":/usr/sbin:/usr/bin:/sbin:/bin")
	cmd.SysProcAttr.Pdeathsig = 0
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s: %s", strings.Join(args, " "), out)
	return string(out)
}

// pause waits between two looks at something, or two calls of a worker.
func pause(d time.Duration) { time.Sleep(d) }
