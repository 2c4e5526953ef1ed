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
	at := ""
	if e.Address != e.Host {
		at = " (" + e.Address + ")"
	}
	return fmt.Sprintf("host %s%s is silent: nothing has come for %v, and it has not answered within %v whether it is alive",
		e.Host, at, e.For.Round(10*time.Millisecond), e.Asked.Round(10*time.Millisecond))
}
