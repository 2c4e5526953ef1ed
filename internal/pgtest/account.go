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

// account is the user as which the server runs. PostgreSQL refuses to run as root, so if we are root it is another one.
type account struct {
	name     string
	uid, gid int                 // own the server's files
	cred     *syscall.Credential // starts processes as this user; nil: it is our own user
}

// serverAccount returns the current user, or if that is root, the user postgres, else nobody.
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

// own makes the account the owner of path.
func (a account) own(path string) error {
	if a.cred == nil {
		return nil
	}
	return os.Lchown(path, a.uid, a.gid)
}

// writeFile writes a file that only the account, and root, can read.
func (a account) writeFile(path string, content []byte) error {
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	if err := a.own(path); err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	return nil
}

// reaches reports whether the account may enter dir: that needs the x bit of dir and of all its parents.
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

// enters reports whether the account has the x bit of a directory.
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

// memoryBase is a file system in memory. Copying a data directory to it, and creating databases in it, is several times as
// fast as on a disk.
const memoryBase = "/dev/shm"

// tempBase returns the first temporary directory that the account can enter: TMPDIR if it is set (root's often can't be
// entered by others), else memoryBase if it has room, else the usual ones.
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

// roomy reports whether dir has room for several servers, which take 40 MB each without data. A container's /dev/shm often
// has 64 MB.
func roomy(dir string) bool {
	const enough = 2 << 30
	var stat syscall.Statfs_t
	return syscall.Statfs(dir, &stat) == nil && uint64(stat.Bavail)*uint64(stat.Bsize) >= enough
}
