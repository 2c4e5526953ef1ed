package link

import (
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/pgerror"
)

// ErrCommitUnknown is among the causes of a COMMIT's error if its outcome isn't known, or if it is not replicated. The root
// package exports it.
var ErrCommitUnknown = errors.New("pgprod: " + ReplyLost.Text())

// Unknown is the reason why the outcome of a COMMIT isn't known, as metrics and the log have it.
type Unknown string

const (
	ReplyLost     Unknown = "reply_lost"     // the connection was lost after COMMIT was sent
	TimeUp        Unknown = "timeout"        // command_timeout passed before the reply came
	EndedAtCommit Unknown = "session_ended"  // a pooler or the server ended the session, without saying what became of COMMIT
	NotReplicated Unknown = "not_replicated" // it is committed, but no synchronous standby has confirmed it
)

// Text says the reason in words, for errors, the log and the live page.
func (u Unknown) Text() string {
	switch u {
	case TimeUp:
		return "the reply to COMMIT didn't come in time, the outcome is unknown"
	case EndedAtCommit:
		return "the session was ended at COMMIT, the outcome is unknown"
	case NotReplicated:
		return "committed on this server, but no synchronous standby has confirmed it"
	}
	return "the reply to COMMIT was lost, the outcome is unknown"
}

// Unknowns are all reasons.
func Unknowns() []Unknown { return []Unknown{ReplyLost, TimeUp, EndedAtCommit, NotReplicated} }

// WhyUnknown returns the reason for which the outcome of a COMMIT that has failed with err isn't known, "" if it is known.
func WhyUnknown(err error) Unknown {
	if e, ok := errors.AsType[*unknownError](err); ok {
		return e.why
	}
	return ""
}

// An unknownError is the error of a COMMIT whose outcome isn't known.
type unknownError struct {
	why   Unknown
	cause error // never nil
}

func (e *unknownError) Error() string { return "pgprod: " + e.why.Text() + ": " + e.cause.Error() }

// Unwrap returns the causes.
func (e *unknownError) Unwrap() []error { return []error{ErrCommitUnknown, e.cause} }

// notSent is the text of a rolledBackError for a COMMIT of which not a byte was written.
const notSent = "COMMIT was not sent, the server rolls the transaction back"

// commitOutcome returns the error of a COMMIT for which pgx has returned err, or nil with a warning from the server. unsent
// says that not a byte of it was written. The error is nil if the connection was lost after the server had said that it has
// committed. If it can't be found out whether the server has committed, the error is ErrCommitUnknown, and is reported unless
// the transaction has a key.
func (c *Conn) commitOutcome(err error, unsent bool) error {
	o := &c.stmt.outcome
	switch {
	case o.unconfirmed != nil:
		return c.notReplicated(o.unconfirmed)
	case o.tag == "COMMIT" || o.tag == "COMMIT PREPARED" || o.tag == "PREPARE TRANSACTION":
		return nil // the server's command tag has come: it has committed, whatever went wrong afterwards
	case unsent:
		return c.rolledBack(notSent, c.Real(err))
	case pgerror.EndedInstead(err):
		return c.rolledBack("the transaction was not committed, the server ended the session instead", err)
	case pgerror.SettlesCommit(err):
		return c.orCut(c.afterConflict(err))
	}
	why := ReplyLost
	switch {
	case c.guard.Cut().Happened():
		why = TimeUp
	case pgerror.From(err) != nil:
		why = EndedAtCommit
	}
	err = c.orCut(c.Real(err))
	if c.tx.once == nil { // otherwise InTx finds out
		c.observer.CommitUnknown(why, err)
	}
	return &unknownError{why, err}
}

// afterConflict returns the error of a COMMIT by which the transaction is rolled back. If the server has answered with
// ROLLBACK, since it had failed the transaction in favour of another one and the caller has ignored that error, that error is
// among the causes.
func (c *Conn) afterConflict(err error) error {
	conflict := c.tx.conflict
	if conflict == nil || !errors.Is(err, pgx.ErrTxCommitRollback) {
		return err
	}
	return pgerror.WithCauses(c.dialer.prefix()+"COMMIT was answered by ROLLBACK, since a statement had failed before: "+
		conflict.Error(), err, conflict)
}

// notReplicated returns the error of a statement that the server has committed, but for which it has stopped waiting for the
// confirmation of a synchronous standby, as its warning says. If command_timeout or the caller's context has ended that
// wait, its error is among the causes.
func (c *Conn) notReplicated(warning *pgconn.PgError) error {
	causes := []error{&unknownError{NotReplicated, warning}}
	if cut := c.guard.Cut().Err(); cut != nil {
		causes = append(causes, pgerror.OfContext(cut)...)
	}
	return pgerror.WithCauses(c.dialer.prefix()+NotReplicated.Text()+", and a failover may undo it: "+warning.Message, causes...)
}
