package settings

import (
	"os"
	"path/filepath"

	"github.com/jackc/pgservicefile"
)

// readService reads the section of libpq's service file that the DSN or PGSERVICE names, if any. pgx reads it as well, and
// reports errors, but doesn't say which settings are from there.
func (l *loader) readService() {
	if !l.hasService() {
		return
	}
	file, err := pgservicefile.ReadServicefile(l.libpq("servicefile", "PGSERVICEFILE", homeServices()))
	if err != nil {
		return
	}
	if section, err := file.GetService(l.libpq("service", "PGSERVICE", "")); err == nil {
		l.dsn.service = section.Settings
	}
}

// hasService reports whether a section of a service file is to be used.
func (l *loader) hasService() bool {
	_, ok := l.dsn.get("service")
	return ok || l.vars["PGSERVICE"] != ""
}

// libpq returns the value of one of libpq's settings: of a key of the DSN, else of a variable, else otherwise.
func (l *loader) libpq(key, variable, otherwise string) string {
	if value, ok := l.dsn.get(key); ok {
		return value
	}
	if value := l.vars[variable]; value != "" {
		return value
	}
	return otherwise
}

// homeServices is the path of libpq's default service file, "" if there is no home directory.
func homeServices() string {
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".pg_service.conf")
}
