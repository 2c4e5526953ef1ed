package pgtest

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// copyTree copies the directory src to dst and gives the copy to owner. Where the file system can, files share their
// blocks: io.Copy between files is copy_file_range(2) on Linux.
func copyTree(src, dst string, owner account) error {
	err := filepath.WalkDir(src, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		return copyEntry(path, filepath.Join(dst, rel), entry, owner)
	})
	if err != nil {
		return fmt.Errorf("pgtest: copy %s: %w", src, err)
	}
	return nil
}

func copyEntry(src, dst string, entry fs.DirEntry, owner account) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	switch {
	case entry.IsDir():
		err = os.Mkdir(dst, info.Mode().Perm())
	case info.Mode().IsRegular():
		err = copyFile(src, dst, info.Mode().Perm())
	default:
		err = fmt.Errorf("%s is neither a file nor a directory", src)
	}
	if err != nil {
		return err
	}
	return owner.own(dst)
}

func copyFile(src, dst string, mode fs.FileMode) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}
