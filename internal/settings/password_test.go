package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func passwordFile(t *testing.T, content string) string {
	path := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func TestAPasswordFileLosesOneNewline(t *testing.T) {
	for content, want := range map[string]string{
		"s3cret": "s3cret", "s3cret\n": "s3cret", "s3cret\r\n": "s3cret", "s3cret\n\n": "s3cret\n", "s3cret\r": "s3cret\r",
		" s3cret ": " s3cret ",
	} {
		got, err := ReadPassword(passwordFile(t, content))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestAPasswordFileThatIsNoneIsAnErrorWithoutItsContent(t *testing.T) {
	for _, content := range []string{"", "\n", "\r\n", "s3cret\x00", strings.Repeat("s3cret", 20_000)} {
		path := passwordFile(t, content)
		_, err := ReadPassword(path)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "s3cret")
		require.Contains(t, refused(t, remote, "DB_PASSWORD_FILE="+path), "variable DB_PASSWORD_FILE: can't be read")
	}
	_, err := ReadPassword(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = ReadPassword(t.TempDir())
	require.Error(t, err)
}

func TestAPasswordFileIsCheckedByLoadWithoutShowingItsPath(t *testing.T) {
	_, err := Load(remote, nil, Values{PasswordFile: new("/s3cret")}, "")
	require.ErrorIs(t, err, os.ErrNotExist)
	require.EqualError(t, err, "pgprod: option WithPasswordFile: can't be read: no such file or directory")
	require.Contains(t, refused(t, remote+"?password_file="+t.TempDir()), "DSN key password_file: can't be read: is a directory")
}

func TestThePasswordOfTheDSNWinsOverTheEnvironmentsAndThatOverLibpqs(t *testing.T) {
	withPassword := strings.Replace(remote, "app@", "app:dsn@", 1)
	password := func(dsn string, environ ...string) string { return load(t, dsn, environ...).Conn.Password }
	require.Equal(t, "dsn", password(withPassword, "DB_PASSWORD=env", "PGPASSWORD=pg"))
	require.Equal(t, "env", password(remote, "DB_PASSWORD=env", "PGPASSWORD=pg"))
	require.Equal(t, "env", password(remote+"?password=", "DB_PASSWORD=env", "PGPASSWORD=pg"))
	require.Equal(t, "pg", password(remote, "DB_PASSWORD=", "PGPASSWORD=pg"))
	require.Equal(t, "orders", password(remote+"?env_prefix=ORDERS_", "DB_PASSWORD=env", "ORDERS_PASSWORD=orders"))
	require.Empty(t, password(remote, "DB_PASSWORD_FILE="+passwordFile(t, "file"), "PGPASSWORD=pg"))
}

func TestLoadTellsWhetherTheDSNItselfCarriesAPassword(t *testing.T) {
	for dsn, want := range map[string]bool{
		"postgres://u:p@h/d": true, "postgres://u@h/d?password=p": true, "host=h password=p": true,
		"postgres://u@h/d": false, "postgres://u:@h/d": false, "host=h password=''": false,
	} {
		require.Equal(t, want, load(t, dsn, "DB_PASSWORD=x").PasswordInDSN, dsn)
	}
}

func TestTwoPasswordsContradictEachOther(t *testing.T) {
	file := passwordFile(t, "file")
	require.Equal(t, "pgprod: DSN key password and variable DB_PASSWORD_FILE: are both given; give one of them",
		refused(t, "host=h password=s3cret", "DB_PASSWORD_FILE="+file))
	require.Equal(t, "pgprod: variable DB_PASSWORD and DSN key password_file: are both given; give one of them",
		refused(t, "host=h password_file="+file, "DB_PASSWORD=s3cret"))

	_, err := Load("host=h", nil, Values{PasswordFile: &file}, "WithPasswordFunc")
	require.EqualError(t, err, "pgprod: option WithPasswordFunc and option WithPasswordFile: are both given; give one of them")
	_, err = Load("host=h password=s3cret", nil, Values{}, "WithPasswordFunc")
	require.EqualError(t, err, "pgprod: option WithPasswordFunc and DSN key password: are both given; give one of them")
	c, err := Load("host=h", []string{"DB_PASSWORD=env"}, Values{}, "WithPasswordFunc")
	require.NoError(t, err)
	require.Empty(t, c.Conn.Password)
}
