package pgerror

import (
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// IsConflict reports whether the server rolled a transaction back in favour of another one, which it was in conflict with:
// begun again, it may succeed.
func IsConflict(err error) bool { return conflicts.has(err) }

var conflicts = setOf(SerializationFailure, DeadlockDetected)

// EndedInstead is asked of a COMMIT's error. It reports whether the server ended the session in place of the COMMIT, by its
// own word: then the transaction was rolled back. ProcessInterrupts is the function of PostgreSQL's that says so between two
// steps of a statement, and never in the midst of a commit. A pooler's FATAL names no function, and proves nothing.
func EndedInstead(err error) bool {
	return IsFatal(err) && From(err).Routine == "ProcessInterrupts" && interrupts.has(err)
}

// interrupts are the reasons for which ProcessInterrupts ends a session.
var interrupts = setOf(AdminShutdown, IdleSessionTimeout, IdleInTransactionTimeout, TransactionTimeout)

// SettlesCommit is asked of a COMMIT's error. It reports whether the error is the server's answer to the COMMIT, by which the
// transaction is known to be rolled back. It is no answer if the server ended the session with it, or if it comes from a
// pooler that has lost the server. pgx's own ErrTxCommitRollback is one: the server answered COMMIT with ROLLBACK.
func SettlesCommit(err error) bool {
	if From(err) != nil {
		return !IsFatal(err) && !unanswered.has(err)
	}
	return errors.Is(err, pgx.ErrTxCommitRollback)
}

// unanswered are the codes with which a pooler says that it has lost the server.
var unanswered = setOf(StatementCompletionUnknown, classConnection)

// NotReplicated reports whether a notice says that a transaction is committed on this server, but that no synchronous standby
// has confirmed it, since the wait for one was cancelled or the session is being ended. SyncRepWaitForLSN is the function of
// PostgreSQL's that waits, and it warns of nothing else.
func NotReplicated(n *pgconn.Notice) bool { return n.Routine == "SyncRepWaitForLSN" }
