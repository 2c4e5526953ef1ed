package pgtest

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// copyTree copies the directory src to dst, and makes owner the copy's owner. On Linux io.Copy between files uses
// copy_file_range(2), so that the files share their blocks if the file system can do that.
func copyTree(src, dst string, owner account) error {
	return walkTree(src, func(rel string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return copyEntry(filepath.Join(src, rel), filepath.Join(dst, rel), entry, owner)
	})
}

// copyLiveTree is copyTree for a directory that is written to meanwhile. A file that vanishes is left out, and so is each
// path, relative to src, for which leftOut returns true.
func copyLiveTree(src, dst string, owner account, leftOut func(rel string) bool) error {
	return walkTree(src, func(rel string, entry fs.DirEntry, err error) error {
		if leftOut(rel) {
			return skipping(entry)
		}
		from := filepath.Join(src, rel)
		if err == nil {
			err = copyEntry(from, filepath.Join(dst, rel), entry, owner)
		}
		if err != nil && rel != "." && !exists(from) {
			return skipping(entry)
		}
		return err
	})
}

// skipping is what the function of a walk returns to leave out an entry, with all that is below it.
func skipping(entry fs.DirEntry) error {
	if entry.IsDir() {
		return fs.SkipDir
	}
	return nil
}

// walkTree is filepath.WalkDir with paths relative to src.
func walkTree(src string, do func(rel string, entry fs.DirEntry, err error) error) error {
	err := filepath.WalkDir(src, func(path string, entry fs.DirEntry, failed error) error {
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		return do(rel, entry, failed)
	})
	if err != nil {
		return fmt.Errorf("pgtest: copy %s: %w", src, err)
	}
	return nil
}

// copyEntry copies a file, or makes a directory without what is in it.
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
