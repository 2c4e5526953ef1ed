package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/lease"
	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/pgerror"
)

// ErrTimeout and ErrCommitUnknown are the errors that applications look for with errors.Is. The root package exports them.
var (
	ErrTimeout       = errors.New("pgprod: no connection became free within pool_timeout")
	ErrCommitUnknown = link.ErrCommitUnknown
)

var (
	errNoneIdle  = errors.New("pgprod: no connection is idle") // the caller goes back to the queue; no application sees it
	errPanicked  = errors.New("pgprod: a panic in the middle of a statement has ended this *sql.Conn, take another")
	errFoundDead = errors.New("found closed by the other end when it was to be lent")
)

// timeoutError is the error of a caller that got no connection within pool_timeout. It says how full the pool was. Its
// causes are ErrTimeout and the last failure to connect, if there was one.
type timeoutError struct {
	pool           string // the pool's name
	size, overflow int    // pool_size and max_overflow
	inUse, waiting int    // connections that were lent, and other callers that waited, when the time was up
	connecting     int    // connections that were being made then
	waited         time.Duration
	last           error // the latest failure to connect, as lease.Stats.LastError has it; nil: none

	own *activity.Own // what the caller perhaps holds itself; nil: nothing, or that isn't known
}

var _ net.Error = (*timeoutError)(nil)

func (e *timeoutError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "pgprod: pool %s: no connection became free in %v (pool_size %d, max_overflow %d, in use %d, waiting %d%s)",
		e.pool, e.waited.Round(time.Millisecond), e.size, e.overflow, e.inUse, e.waiting, connectingNow(e.connecting))
	if e.last != nil {
		b.WriteString("; the last attempt to connect failed: " + link.Within(e.last))
	} else if e.own != nil {
		fmt.Fprintf(&b, "; perhaps it waits for itself: it got a connection at %s %s ago and still has it (%s)",
			e.own.Borrower(), activity.Rough(e.own.Held), cmp.Or(e.own.Summary, "no statement yet"))
	} else if e.inUse > 0 {
		b.WriteString("; look for long transactions, unclosed rows and slow statements first, then raise pool_size or max_overflow")
	}
	return b.String()
}

// Unwrap returns the causes. A nil among them would make errors.Is and errors.As panic.
func (e *timeoutError) Unwrap() []error {
	if e.last == nil {
		return []error{ErrTimeout}
	}
	return []error{ErrTimeout, e.last}
}

// Timeout implements net.Error, which context.DeadlineExceeded is as well.
func (e *timeoutError) Timeout() bool { return true }

// Temporary implements net.Error.
func (e *timeoutError) Temporary() bool { return true }

// connectingNow is the part of an error's text about connections that are being made, "" if there are none.
func connectingNow(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", connecting %d", n)
}

// An askingError is the error of a caller's context that has ended while a connection was being pinged.
type askingError struct{ error }

// Unwrap returns the context's error.
func (e askingError) Unwrap() error { return e.error }

// waitError returns the error for a caller that got no connection because of err, which is the queue's or the context's. Any
// other error is explained already, and returned as it is.
func (p *Pool) waitError(err error, waited time.Duration) error {
	if errors.Is(err, lease.ErrClosed) {
		return fmt.Errorf("pgprod: pool %s: the database handle is closed", p.cfg.PoolName)
	}
	s := p.queue.Stats()
	if err == lease.ErrTimeout {
		return &timeoutError{
			pool: p.cfg.PoolName, size: p.cfg.PoolSize, overflow: p.cfg.MaxOverflow,
			inUse: s.Lent, waiting: s.Waiting, connecting: s.Dialing, waited: waited, last: s.LastError,
			own: p.heldByCaller(),
		}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return p.endedWaiting(err, waited, s)
	}
	return err
}

// endedWaiting returns the error for a caller whose context has ended, with err, before it had a connection. s is how full
// the pool was then.
func (p *Pool) endedWaiting(err error, waited time.Duration, s lease.Stats) error {
	what := "for a connection"
	if _, asking := err.(askingError); asking {
		what = "for a connection's answer to the question whether it is alive (pool_pre_ping)"
	}
	causes := pgerror.OfContext(err)
	text := fmt.Sprintf("pgprod: pool %s: %v after waiting %v %s (in use %d of %d, waiting %d%s)", p.cfg.PoolName, err,
		waited.Round(time.Millisecond), what, s.Lent, p.cfg.Capacity(), s.Waiting, connectingNow(s.Dialing))
	if s.LastError != nil {
		text += "; the last attempt to connect failed: " + link.Within(s.LastError)
		causes = append(causes, s.LastError)
	}
	return pgerror.WithCauses(text, causes...)
}
