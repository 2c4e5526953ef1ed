package pgtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// readProc reads /proc/*/stat: "pid (name) state parent …", where the name may hold spaces and parentheses.
func readProc() ([]processEntry, error) {
	paths, _ := filepath.Glob("/proc/[0-9]*/stat") // the only error is a bad pattern
	var table []processEntry
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended in between
		}
		head, tail, ok := strings.Cut(string(text), " (")
		end := strings.LastIndex(tail, ") ")
		if !ok || end < 0 {
			return nil, fmt.Errorf("pgtest: can't read %s: %q", path, text)
		}
		fields := strings.Fields(tail[end+2:])
		entry, err := parseEntry(head, fields[1], fields[0])
		if err != nil {
			return nil, err
		}
		table = append(table, entry)
	}
	return table, nil
}
