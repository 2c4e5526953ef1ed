package pool

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/lease"
	"github.com/pgprod/pgprod/internal/pgerror"
)

// ErrTimeout and ErrCommitUnknown are what errors.Is finds; the root package exports them.
var (
	ErrTimeout       = errors.New("pgprod: no connection became free within pool_timeout")
	ErrCommitUnknown = errors.New("pgprod: the reply to COMMIT was lost, the outcome is unknown")
)

var (
	// errBusy has pgx's words at the beginning. pgx isn't asked: in its own refusal it mixes the new statement up with the
	// open rows, which then end early, and a BEGIN that is refused costs it the connection.
	errBusy      = errors.New("pgprod: conn busy: the rows of another statement are open on this connection, close them first")
	errNoneIdle  = errors.New("pgprod: no connection is idle") // never leaves this package
	errLost      = errors.New("connection lost")
	errSparing   = errors.New("pgprod: no cancel request is sent while a COMMIT may be under way")
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

func (e *timeoutError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "pgprod: pool %s: no connection became free in %v (pool_size %d, max_overflow %d, in use %d, waiting %d%s)",
		e.pool, e.waited.Round(time.Millisecond), e.size, e.overflow, e.inUse, e.waiting, connectingNow(e.connecting))
	if e.last != nil {
		b.WriteString("; the last attempt to connect failed: " + inside(e.last))
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

// inside is an error's text within another's that names the pool already.
func inside(err error) string {
	var dial *dialError
	if errors.As(err, &dial) {
		return dial.text()
	}
	return oneLine(err)
}

// explained is an error whose text isn't put together from those of its causes.
type explained struct {
	text   string
	causes []error // none is nil
}

func (e *explained) Error() string   { return e.text }
func (e *explained) Unwrap() []error { return e.causes }

// alreadyEnded is the error of a call whose context has ended before anything was done, nil if it hasn't.
func alreadyEnded(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		return nil
	}
	return &explained{text: "pgprod: nothing was sent: " + err.Error(), causes: pgerror.OfContext(err)}
}

// askingError is the end of a caller's context while a connection was being asked whether it lives.
type askingError struct{ error }

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
		e.text += "; the last attempt to connect failed: " + inside(s.LastError)
		e.causes = append(e.causes, s.LastError)
	}
	return e
}

// cutError is a statement that command_timeout or the caller's context ended. It is the context's error, and the
// server's if the server answered.
type cutError struct {
	pool  string
	why   string
	hint  string
	ctx   error
	cause error
}

func (e *cutError) Error() string {
	return "pgprod: pool " + e.pool + ": " + e.why + ": " + e.cause.Error() + e.hint
}
func (e *cutError) Unwrap() []error { return append(pgerror.OfContext(e.ctx), e.cause) }

// Timeout and Temporary make it a net.Error, as context.DeadlineExceeded is.
func (e *cutError) Timeout() bool { return e.ctx == context.DeadlineExceeded }

// Temporary is part of net.Error.
func (e *cutError) Temporary() bool { return e.Timeout() }

// fate is what cut a statement short, if anything did.
type fate struct {
	guard.Cut
	after   time.Duration // it had run for; 0: not known
	reading bool          // its first rows had arrived, and the caller had not closed them
}

// fate is that of the last statement, or of the present one.
func (c *conn) fate() fate { return fate{c.guard.Cut(), c.cutAfter, c.cutReading} }

// byCaller says how the caller ended a statement.
func (f fate) byCaller() string {
	what := "the caller cancelled the statement"
	if errors.Is(f.Caller, context.DeadlineExceeded) {
		what = "the caller's deadline ended the statement"
	}
	if f.after > 0 {
		what += fmt.Sprintf(" after %v", f.after.Round(time.Millisecond))
	}
	return what + f.whileReading()
}

// whileReading tells a statement whose rows were still open from one that the server was at work on.
func (f fate) whileReading() string {
	if f.reading {
		return " while its rows were open: sent slowly, read slowly or not closed"
	}
	return ""
}

// rolledBackError is the error of a statement, or of a COMMIT that was not sent or not begun, by which the transaction is
// rolled back for certain: it may be begun again.
type rolledBackError struct {
	pool  *Pool // of the transaction
	why   string
	cause error
}

func (c *conn) rolledBack(why string, cause error) error {
	return &rolledBackError{pool: c.pool, why: why, cause: cause}
}

func (e *rolledBackError) Error() string {
	return "pgprod: pool " + e.pool.cfg.PoolName + ": " + e.why + ": " + e.cause.Error()
}

func (e *rolledBackError) Unwrap() error { return e.cause }

// notReplicated is the error of what is committed and has not been confirmed by a synchronous standby, as the server's
// warning says. If it was command_timeout or the caller's context that ended the wait, the error says that as well.
func (c *conn) notReplicated(warning *pgconn.PgError) error {
	e := &explained{causes: []error{ErrCommitUnknown, warning}, text: "pgprod: pool " + c.pool.cfg.PoolName +
		": committed on this server, but no synchronous standby has confirmed it, and a failover may undo it: " + warning.Message}
	if cut := c.guard.Cut().Err(); cut != nil {
		e.causes = append(e.causes, pgerror.OfContext(cut)...)
	}
	return e
}

// dialError is a failure to connect, in one line.
type dialError struct {
	pool         string
	noDSN        string // why this is nobody's choice
	passwordFrom string
	final        bool // there is no use in trying again
	cause        error
}

func (e *dialError) Error() string { return "pgprod: pool " + e.pool + ": " + e.text() }
func (e *dialError) text() string  { return oneLine(e.cause) + e.hint() }
func (e *dialError) Unwrap() error { return e.cause }

// hint says what to look at, in brackets, or nothing.
func (e *dialError) hint() string {
	hint := e.advice()
	if e.noDSN != "" {
		hint = strings.TrimPrefix(hint+"; "+e.noDSN, "; ")
	}
	if hint == "" {
		return ""
	}
	return " (" + hint + ")"
}

func (e *dialError) advice() string {
	if _, none := errors.AsType[*passwordError](e.cause); none {
		return "there is no password to log in with"
	}
	return pgerror.Advice(e.cause, e.passwordFrom)
}

// passwordError is a failure to get the password.
type passwordError struct {
	from    string
	cause   error
	foreign bool // the cause is the application's, and may say anything
}

func (e *passwordError) Error() string { return e.from + ": " + e.cause.Error() }
func (e *passwordError) Unwrap() error { return e.cause }

// oneLine is an error's text in one line.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// safeText is an error's text for logs and pages, in one line: without what a password function says, which may be more
// than it should. Its caller gets it.
func safeText(err error) string { return hidePassword(oneLine(err), err) }

// hidePassword takes what a password function says out of a text about an error.
func hidePassword(text string, err error) string {
	var password *passwordError
	if errors.As(err, &password) && password.foreign {
		text = strings.ReplaceAll(text, oneLine(password.cause), fmt.Sprintf("(%T)", password.cause))
	}
	return text
}
