package pool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/pgprod/pgprod/internal/lease"
	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/pgerror"
)

// ErrTimeout and ErrCommitUnknown are what errors.Is finds; the root package exports them.
var (
	ErrTimeout       = errors.New("pgprod: no connection became free within pool_timeout")
	ErrCommitUnknown = link.ErrCommitUnknown
)

var (
	errNoneIdle  = errors.New("pgprod: no connection is idle") // never leaves this package
	errPanicked  = errors.New("pgprod: a panic in the middle of a statement has ended this *sql.Conn, take another")
	errFoundDead = errors.New("found closed by the other end when it was to be lent")
)

// timeoutError says how full the pool was. Its cause is ErrTimeout, and the last failure to connect if there was one.
type timeoutError struct {
	pool           string
	size, overflow int
	inUse, waiting int
	connecting     int
	waited         time.Duration
	last           error
}

var _ net.Error = (*timeoutError)(nil)

func (e *timeoutError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "pgprod: pool %s: no connection became free in %v (pool_size %d, max_overflow %d, in use %d, waiting %d%s)",
		e.pool, e.waited.Round(time.Millisecond), e.size, e.overflow, e.inUse, e.waiting, connectingNow(e.connecting))
	if e.last != nil {
		b.WriteString("; the last attempt to connect failed: " + link.Within(e.last))
	} else if e.inUse > 0 {
		b.WriteString("; look for long transactions, unclosed rows and slow statements first, then raise pool_size or max_overflow")
	}
	return b.String()
}

// Unwrap must not return a nil among its errors.
func (e *timeoutError) Unwrap() []error {
	if e.last == nil {
		return []error{ErrTimeout}
	}
	return []error{ErrTimeout, e.last}
}

// Timeout and Temporary make it a net.Error, as context.DeadlineExceeded is.
func (e *timeoutError) Timeout() bool { return true }

// Temporary is part of net.Error.
func (e *timeoutError) Temporary() bool { return true }

func connectingNow(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", connecting %d", n)
}

// An explained error has a text that isn't put together from those of its causes.
type explained struct {
	text   string
	causes []error // none is nil
}

func (e *explained) Error() string { return e.text }

// Unwrap returns the causes.
func (e *explained) Unwrap() []error { return e.causes }

// askingError is the end of a caller's context while a connection was being asked whether it lives.
type askingError struct{ error }

// Unwrap returns the context's error.
func (e askingError) Unwrap() error { return e.error }

// waitError explains why a caller got no connection.
func (p *Pool) waitError(err error, waited time.Duration) error {
	if errors.Is(err, lease.ErrClosed) {
		return fmt.Errorf("pgprod: pool %s: the database handle is closed", p.cfg.PoolName)
	}
	s := p.queue.Stats()
	if err == lease.ErrTimeout {
		return &timeoutError{
			pool: p.cfg.PoolName, size: p.cfg.PoolSize, overflow: p.cfg.MaxOverflow,
			inUse: s.Lent, waiting: s.Waiting, connecting: s.Dialing, waited: waited, last: s.LastError,
		}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return p.endedWaiting(err, waited, s)
	}
	return err
}

// endedWaiting explains the end of a caller's context before it had a connection.
func (p *Pool) endedWaiting(err error, waited time.Duration, s lease.Stats) error {
	what := "for a connection"
	if _, asking := err.(askingError); asking {
		what = "for a connection's answer to the question whether it is alive (pool_pre_ping)"
	}
	e := &explained{causes: pgerror.OfContext(err), text: fmt.Sprintf("pgprod: pool %s: %v after waiting %v %s (in use %d of %d, waiting %d%s)",
		p.cfg.PoolName, err, waited.Round(time.Millisecond), what, s.Lent, p.cfg.Capacity(), s.Waiting, connectingNow(s.Dialing))}
	if s.LastError != nil {
		e.text += "; the last attempt to connect failed: " + link.Within(s.LastError)
		e.causes = append(e.causes, s.LastError)
	}
	return e
}
