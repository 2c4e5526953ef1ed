package settings

import (
	"bytes"
	"encoding"
	"errors"
	"strings"
	"time"
)

// Duration is a time.Duration whose text is as Go writes it, 30s or 1m30s, or a bare number of seconds, 30 or 0.25.
type Duration time.Duration

var errDuration = errors.New("pgprod: not a duration: write 30s, 1m30s or bare seconds")

var _ encoding.TextUnmarshaler = (*Duration)(nil)

// UnmarshalText implements encoding.TextUnmarshaler. A bare number is seconds. The error doesn't quote the text.
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
