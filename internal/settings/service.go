package settings

import (
	"os"
	"path/filepath"

	"github.com/jackc/pgservicefile"
)

// readService reads the section of libpq's service file that is in force. pgx reads it too, and reports what is wrong
// with it, but doesn't tell which settings came from there.
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

func (l *loader) hasService() bool {
	_, ok := l.dsn.get("service")
	return ok || l.vars["PGSERVICE"] != ""
}

// libpq is one of libpq's settings: a key of the DSN, else a variable, else what it is without.
func (l *loader) libpq(key, variable, otherwise string) string {
	if value, ok := l.dsn.get(key); ok {
		return value
	}
	if value := l.vars[variable]; value != "" {
		return value
	}
	return otherwise
}

func homeServices() string {
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".pg_service.conf")
}
