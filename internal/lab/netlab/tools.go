//go:build linux

package netlab

import (
	"fmt"
	"os/exec"
	"runtime"
	"strings"
)

// tools are the programs that are needed, and the Debian packages that have them.
var tools = map[string]string{"ip": "iproute2", "nft": "nftables"}

// findTools returns an error that says which package to install, if a program is missing.
func findTools() error {
	for program, pkg := range tools {
		if path(program) == "" {
			return fmt.Errorf("netlab: the program %s is missing: apt-get install -y %s", program, pkg)
		}
	}
	return nil
}

// path returns where a program is, which may be where only root looks for it; "" if it is nowhere.
func path(program string) string {
	for _, name := range []string{program, "/usr/sbin/" + program, "/sbin/" + program} {
		if found, err := exec.LookPath(name); err == nil {
			return found
		}
	}
	return ""
}

// run runs a program in the network namespace of the calling thread.
func run(program string, args ...string) error { return feed("", program, args...) }

// feed is run with an input.
func feed(input, program string, args ...string) error {
	runtime.LockOSThread() // a thread that is locked already is in another namespace than the others
	defer runtime.UnlockOSThread()
	cmd := exec.Command(path(program), args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("netlab: %s %s: %w: %s\n%s", program, strings.Join(args, " "), err, strings.TrimSpace(string(out)), input)
	}
	return nil
}

// ip runs several commands of the program ip.
func ip(commands ...string) error {
	return feed(strings.Join(commands, "\n")+"\n", "ip", "-batch", "-")
}
