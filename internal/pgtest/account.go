package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the user that runs the server. PostgreSQL refuses to run as root, so root lends it another one.
type account struct {
	name string
	// uid and gid own the server's files; cred is nil where the server runs as we do.
	uid, gid int
	cred     *syscall.Credential
}

// serverAccount is the current user or, for root, postgres or nobody.
func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{name: strconv.Itoa(os.Geteuid()), uid: os.Geteuid(), gid: os.Getegid()}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.Atoi(u.Uid)
		gid, errGID := strconv.Atoi(u.Gid)
		if err := errors.Join(errUID, errGID); err != nil {
			return account{}, fmt.Errorf("pgtest: user %s: %w", name, err)
		}
		cred := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		return account{name: name, uid: uid, gid: gid, cred: cred}, nil
	}
	return account{}, errors.New("pgtest: PostgreSQL doesn't run as root, and there is neither a user postgres nor nobody")
}

// own gives path to the account.
func (a account) own(path string) error {
	if a.cred == nil {
		return nil
	}
	return os.Lchown(path, a.uid, a.gid)
}

// writeFile makes a file that only the account, and root, can read.
func (a account) writeFile(path string, content []byte) error {
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	if err := a.own(path); err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	return nil
}

// reaches says whether the account may enter dir, which takes the x bit on it and on all its parents.
func (a account) reaches(dir string) bool {
	if a.cred == nil {
		return true
	}
	for {
		info, err := os.Stat(dir)
		if err != nil || !a.enters(info) {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}

func (a account) enters(info os.FileInfo) bool {
	mode := info.Mode().Perm()
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		switch {
		case int(stat.Uid) == a.uid:
			return mode&0o100 != 0
		case int(stat.Gid) == a.gid:
			return mode&0o010 != 0
		}
	}
	return mode&0o001 != 0
}

// memoryBase is a file system in memory, several times as quick as a disk to copy a data directory to and to create
// databases in.
const memoryBase = "/dev/shm"

// tempBase is the first temporary directory that the account can enter (root's TMPDIR is often closed to others): TMPDIR
// if set, else memoryBase if it has room, else the usual ones.
func (a account) tempBase() (string, error) {
	dirs := []string{os.TempDir(), "/tmp", "/var/tmp"}
	if os.Getenv("TMPDIR") == "" && roomy(memoryBase) {
		dirs = append([]string{memoryBase}, dirs...)
	}
	for _, dir := range dirs {
		if abs, err := filepath.Abs(dir); err == nil && a.reaches(abs) {
			return abs, nil
		}
	}
	return "", fmt.Errorf("pgtest: user %s can enter neither %s nor /tmp nor /var/tmp", a.name, os.TempDir())
}

// roomy says whether dir has room for some servers of 40 MB and their data: a container's /dev/shm often has 64 MB.
func roomy(dir string) bool {
	const enough = 2 << 30
	var stat syscall.Statfs_t
	return syscall.Statfs(dir, &stat) == nil && uint64(stat.Bavail)*uint64(stat.Bsize) >= enough
}
