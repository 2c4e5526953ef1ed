package pgtest

import (
	"context"
	"os"
	"os/exec"
	"testing"
)

// HomeTB makes a directory for a program that a test starts beside the servers: a cluster's manager, a proxy. It belongs to the
// servers' account, is short enough for unix sockets, and is removed at the end of the test or, if this process dies before, by
// a later Start.
func HomeTB(t testing.TB) string {
	t.Helper()
	a, err := serverAccount()
	if err != nil {
		t.Fatal(err)
	}
	h, err := newHome(a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.remove(); err != nil {
			t.Error(err)
		}
	})
	return h.path
}

// WriteFileTB writes a file that the servers' account owns, and that may be executed.
func WriteFileTB(t testing.TB, path, content string) {
	t.Helper()
	a, err := serverAccount()
	if err == nil {
		err = a.writeFile(path, []byte(content))
	}
	if err == nil {
		err = os.Chmod(path, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// CommandTB returns a command that runs as the servers' account in dir, in a process group of its own, and without the
// variables that could change what a program of PostgreSQL does. On Linux it gets SIGQUIT when this process dies.
func CommandTB(t testing.TB, dir, path string, args ...string) *exec.Cmd {
	t.Helper()
	a, err := serverAccount()
	if err != nil {
		t.Fatal(err)
	}
	return command(context.Background(), a, dir, path, args...)
}
