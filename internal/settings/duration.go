package settings

import (
	"bytes"
	"errors"
	"strings"
	"time"
)

// Duration is a time.Duration that is written as Go does, 30s or 1m30s, or as bare seconds, 30 or 0.25. In JSON and
// YAML it may be a number of seconds or a text.
type Duration time.Duration

var errDuration = errors.New("pgprod: not a duration: write 30s, 1m30s or bare seconds")

// String writes the duration as time.Duration does.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads 30s, 1m30s, 30 and 0.25; the last two are seconds.
func (d *Duration) UnmarshalText(text []byte) error {
	s := string(bytes.TrimSpace(text))
	if s != "" && strings.Trim(s, "+-.0123456789") == "" {
		s += "s"
	}
	parsed, err := time.ParseDuration(s)
	if err != nil {
		return errDuration // the cause quotes the text, which may be anything
	}
	*d = Duration(parsed)
	return nil
}

// UnmarshalJSON reads a number of seconds, or a string as UnmarshalText does.
func (d *Duration) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	return d.UnmarshalText(bytes.Trim(data, `"`))
}
