package hosts

import (
	"fmt"
	"time"
)

// A SilentError is why a connection was cut: while something waited for a reply, nothing has come from its host, and the host
// hasn't answered the question whether it is alive.
type SilentError struct {
	Host    string        // Host.Name
	Address string        // what the connection was made to
	For     time.Duration // how long nothing has come
	Asked   time.Duration // how long the host had to answer
}

func (e *SilentError) Error() string {
	return fmt.Sprintf("%s is silent: nothing has come for %v, and it has not answered within %v whether it is alive",
		place(e.Host, e.Address), e.For.Round(10*time.Millisecond), e.Asked.Round(10*time.Millisecond))
}

// A PathError is why a single connection was cut: its host answers others, but nothing that was sent on this one arrives, as if
// a firewall between them had forgotten it.
type PathError struct {
	Host    string        // Host.Name
	Address string        // what the connection was made to
	For     time.Duration // how long nothing was acknowledged
}

func (e *PathError) Error() string {
	return fmt.Sprintf("%s answers, but nothing of what was sent on this connection has been acknowledged for %v",
		place(e.Host, e.Address), e.For.Round(10*time.Millisecond))
}

// place is a host, with its address if that is another.
func place(host, address string) string {
	if address == host {
		return "host " + host
	}
	return "host " + host + " (" + address + ")"
}
