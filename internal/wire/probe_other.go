//go:build !unix

package wire

import "net"

// A Probe can't look without reading on this platform: a dead connection is found by the ping after an idle second, and by
// its user before that.
type Probe struct{}

// NewProbe returns a Probe for c.
func NewProbe(net.Conn) *Probe { return &Probe{} }

// Look reports Unknown.
func (p *Probe) Look() State { return Unknown }
