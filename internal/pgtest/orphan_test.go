package pgtest_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// childVariable makes this test binary a program that starts a server, says where, and waits to be killed.
const childVariable = "PGTEST_CHILD"

func init() {
	what := os.Getenv(childVariable)
	if what == "" {
		return
	}
	server, err := pgtest.Start(context.Background(), pgtest.Config{})
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	if what == "frozen" {
		err = server.Freeze()
	}
	fmt.Println(server.DataDir(), err)
	if what == "start" {
		_ = server.Stop(context.Background())
		os.Exit(0)
	}
	select {}
}

// TestHelperWaitsToBeInterrupted is for the next test, in a process of its own.
func TestHelperWaitsToBeInterrupted(t *testing.T) {
	if os.Getenv("PGTEST_WAIT") == "" {
		return
	}
	own := pgtest.StartTB(t, pgtest.Config{})
	fmt.Println(own.DataDir())
	fmt.Println(pgtest.Shared(t).DataDir())
	select {}
}

func TestInterruptedTestsLeaveNothingBehind(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run", "^TestHelperWaitsToBeInterrupted$")
	cmd.Env = append(os.Environ(), "PGTEST_WAIT=1", "DB_TEST_DSN=")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	var homes []string
	for len(homes) < 2 && lines.Scan() {
		homes = append(homes, filepath.Dir(lines.Text()))
	}
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	_ = cmd.Wait()
	assert.Equal(t, 130, cmd.ProcessState.ExitCode())
	require.Len(t, homes, 2)
	for _, home := range homes {
		assert.NoDirExists(t, home)
	}
}

// child runs this test binary with childVariable set; it is killed at the end of the test if not before.
func child(t *testing.T, what string, env ...string) (cmd *exec.Cmd, dataDir string) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), childVariable+"="+what), env...)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	dataDir, said, _ := strings.Cut(strings.TrimSpace(line), " ")
	require.Equal(t, "<nil>", said, line)
	return cmd, dataDir
}

func TestAKilledProcessLeavesNoServerFrozenOrNotAndTheNextStartRemovesItsFiles(t *testing.T) {
	t.Parallel() // it takes seconds: a postmaster waits that long before it kills its frozen children
	if runtime.GOOS != "linux" {
		t.Log("only Linux has a parent-death signal")
		return
	}
	for _, what := range []string{"running", "frozen"} {
		cmd, dataDir := child(t, what)
		text, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
		require.NoError(t, err)
		pid, err := strconv.Atoi(strings.SplitN(string(text), "\n", 2)[0])
		require.NoError(t, err)
		require.NoError(t, cmd.Process.Kill())
		pgtest.Eventually(t, 10*time.Second, func() bool { return gone(pid) }, "postmaster %d is gone (%s)", pid, what)

		home := filepath.Dir(dataDir)
		longAgo := time.Now().Add(-time.Hour)
		require.NoError(t, os.Chtimes(filepath.Join(home, "owner.lock"), longAgo, longAgo))
		pgtest.StartTB(t, pgtest.Config{})
		assert.NoDirExists(t, home)
	}
}

// gone says whether a process has ended; a zombie that nobody reaps has.
func gone(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(text), ") Z ")
}

func TestAServerOutlivesTheThreadThatStartedIt(t *testing.T) {
	started := make(chan *pgtest.Server)
	go func() { // ends by itself, and its OS thread with it
		runtime.LockOSThread()
		server, err := pgtest.Start(context.Background(), pgtest.Config{})
		assert.NoError(t, err)
		started <- server
	}()
	server := <-started
	require.NotNil(t, server)
	defer func() { require.NoError(t, server.Stop(context.Background())) }()
	conn := connect(t, server.DSN(""))
	for range 20 { // give the kernel the time to send a signal
		require.NoError(t, conn.Ping(t.Context()))
		runtime.Gosched()
		time.Sleep(5 * time.Millisecond)
	}
	assert.True(t, server.Running())
}

func TestProcessesThatStartAtTheSameTimeMakeOneTemplate(t *testing.T) {
	cache := t.TempDir()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { // ends with the child
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childVariable+"=start", "XDG_CACHE_HOME="+cache, "HOME="+cache)
			out, err := cmd.CombinedOutput()
			assert.NoError(t, err, string(out))
		})
	}
	wg.Wait()
	entries, err := filepath.Glob(filepath.Join(cache, "*", "*"))
	require.NoError(t, err)
	var templates, others []string
	for _, entry := range entries {
		switch {
		case strings.HasSuffix(entry, ".lock"):
		case strings.Contains(entry, "template-"):
			templates = append(templates, entry)
		default:
			others = append(others, entry)
		}
	}
	assert.Len(t, templates, 1)
	assert.Empty(t, others)
}

func TestAPlainUserCanStartAServerToo(t *testing.T) {
	if os.Geteuid() != 0 {
		return // then every other test has shown it
	}
	dir := openTempDir(t)
	binary := filepath.Join(dir, "pgtest.test")
	text, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(binary, text, 0o755))
	cmd := exec.Command(binary)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), childVariable+"=start", "HOME="+dir, "XDG_CACHE_HOME=", "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	left, err := filepath.Glob(filepath.Join(dir, "pgtest-*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}
