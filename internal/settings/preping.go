package settings

import (
	"encoding"
	"errors"
	"strings"
)

// PrePing says whether and how a connection is checked before it is lent.
type PrePing string

var _ encoding.TextUnmarshaler = (*PrePing)(nil)

// The values of pool_pre_ping.
const (
	PrePingAuto   PrePing = "auto"   // look at the socket at each borrow, and ping if it was idle for more than a second
	PrePingAlways PrePing = "always" // ping at each borrow
	PrePingOff    PrePing = "off"    // neither
)

var errPrePing = errors.New("pgprod: pool_pre_ping is auto, always or off")

// parsePrePing reads the texts of the constants, and booleans as other pools' config files have: true means always.
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

// UnmarshalText implements encoding.TextUnmarshaler. It reads auto, always, off, or a boolean: true is always, false is off.
// An empty text leaves *p as it is.
func (p *PrePing) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	parsed, ok := parsePrePing(string(text))
	if !ok {
		return errPrePing
	}
	*p = parsed
	return nil
}
