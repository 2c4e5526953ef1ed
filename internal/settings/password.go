package settings

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
)

// maxPassword is the largest password in bytes; a larger file holds something else.
const maxPassword = 64 << 10

// ReadPassword returns the content of a password file, without a newline at its end. A file that is empty, larger than 64
// KiB, or has a NUL byte is an error. Errors don't show the content.
func ReadPassword(path string) (string, error) {
	password, err := readPassword(path)
	if err != nil {
		return "", fmt.Errorf("pgprod: password_file: %w", err)
	}
	return password, nil
}

// readPassword is ReadPassword, with errors that don't name the key.
func readPassword(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxPassword+1))
	if err != nil {
		return "", err
	}
	password, ended := strings.CutSuffix(string(content), "\n")
	if ended {
		password = strings.TrimSuffix(password, "\r")
	}
	switch {
	case password == "":
		return "", errors.New("the file is empty")
	case len(content) > maxPassword:
		return "", errors.New("the file is larger than 64 KiB")
	case strings.ContainsRune(password, 0):
		return "", errors.New("the file holds a NUL byte")
	}
	return password, nil
}

// checkPassword reports a password that is given in two ways, and a password file that can't be read. PGPASSWORD and .pgpass
// may be there in any case: they are used only if the password isn't given in another way.
func (l *loader) checkPassword() {
	const one = "are both given; give one of them"
	if path := l.values.PasswordFile; path != nil {
		file := l.namer(l.sources["password_file"])(rowOf("password_file"))
		switch {
		case l.loginFrom != "":
			l.problems.add("option "+l.loginFrom+" and "+file, one)
		case l.dsn.hasPassword():
			l.problems.add(l.dsn.name("password")+" and "+file, one)
		case l.vars[l.prefix+"PASSWORD"] != "":
			l.problems.add("variable "+l.prefix+"PASSWORD and "+file, one)
		}
		if _, err := readPassword(*path); err != nil {
			l.problems.wrap(file, "can't be read", withoutPath(err))
		}
	}
	if l.loginFrom != "" && l.dsn.hasPassword() {
		l.problems.add("option "+l.loginFrom+" and "+l.dsn.name("password"), one)
	}
}

// withoutPath returns the cause of an error about a file, without the path: a user may have given the password itself as
// the path of its file.
func withoutPath(err error) error {
	var failed *fs.PathError
	if errors.As(err, &failed) {
		return failed.Err
	}
	return err
}

// setPassword settles the password in the Config. If a file or a function has it, which are read at each dial, the Config
// has none, so that an old password can't be used in its place.
func (l *loader) setPassword(conn *pgx.ConnConfig) {
	fromEnv := l.vars[l.prefix+"PASSWORD"]
	switch {
	case l.loginFrom != "" || l.values.PasswordFile != nil:
		conn.Password = ""
	case !l.dsn.hasPassword() && fromEnv != "" && (l.given.Conn == nil || conn.Password == ""):
		conn.Password = fromEnv
	}
}
