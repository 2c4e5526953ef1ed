//go:build lab

package rivals

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// childVariable makes TestHelperStartsWhatWantsToOutliveIt do so.
const childVariable = "PGPROD_LAB_CHILD"

// escape starts a process in a session of its own, whose parent ends, and which ignores what can be ignored.
const escape = `trap "" QUIT TERM; (setsid sleep 1000 >/dev/null & echo $! >escaped) & wait $!; sleep 1000`

// TestHelperStartsWhatWantsToOutliveIt is for the next test, in a process of its own.
func TestHelperStartsWhatWantsToOutliveIt(t *testing.T) {
	if os.Getenv(childVariable) == "" {
		return
	}
	home := pgtest.HomeTB(t)
	p := start(t, home, "sh", "sh", "-c", escape)
	p.await("it has started a process", func() bool {
		text, err := os.ReadFile(home + "/escaped")
		return err == nil && strings.HasSuffix(string(text), "\n")
	})
	text, err := os.ReadFile(home + "/escaped")
	require.NoError(t, err)
	_, _ = os.Stdout.WriteString("escaped " + string(text))
	select {}
}

func TestWhatIsGuardedEndsWhenTheTestIsKilled(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run", "^TestHelperStartsWhatWantsToOutliveIt$")
	cmd.Env = append(os.Environ(), childVariable+"=1")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "escaped ")))
	require.NoError(t, err)
	require.False(t, gone(pid))
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	pgtest.Eventually(t, time.Minute, func() bool { return gone(pid) }, "process %d has ended", pid)
}

// gone reports whether a process has ended; a zombie that nobody reaps has.
func gone(pid int) bool {
	_, _, alive := readStat("/proc/" + strconv.Itoa(pid) + "/stat")
	return !alive
}
