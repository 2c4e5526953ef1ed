package settings

import (
	"encoding"
	"errors"
	"strings"
)

// PrePing says when a connection is checked before it is lent.
type PrePing string

var _ encoding.TextUnmarshaler = (*PrePing)(nil)

// The values of pool_pre_ping.
const (
	PrePingAuto   PrePing = "auto"   // peek at the socket at every borrow, ping after an idle second
	PrePingAlways PrePing = "always" // ping at every borrow
	PrePingOff    PrePing = "off"
)

var errPrePing = errors.New("pgprod: pool_pre_ping is auto, always or off")

// parsePrePing takes true and false as well, since that is what other pools' config files say.
func parsePrePing(text string) (PrePing, bool) {
	text = strings.ToLower(strings.TrimSpace(text))
	switch p := PrePing(text); p {
	case PrePingAuto, PrePingAlways, PrePingOff:
		return p, true
	}
	on, ok := parseBool(text)
	if !ok {
		return "", false
	}
	if on {
		return PrePingAlways, true
	}
	return PrePingOff, true
}

// UnmarshalText reads auto, always, off, or a boolean: true is always, false is off.
func (p *PrePing) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return nil // not set, as with any other text
	}
	parsed, ok := parsePrePing(string(text))
	if !ok {
		return errPrePing
	}
	*p = parsed
	return nil
}
