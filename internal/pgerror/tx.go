package pgerror

import (
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// IsConflict reports whether the server rolled a transaction back because it was in conflict with another one (serialization
// failure, deadlock). If it is begun again it may succeed.
func IsConflict(err error) bool { return conflicts.has(err) }

var conflicts = setOf(SerializationFailure, DeadlockDetected)

// EndedInstead is called with a COMMIT's error. It reports whether the server says that it ended the session in place of the
// COMMIT, by which the transaction was rolled back. The error then comes from PostgreSQL's function ProcessInterrupts, which
// runs between two steps of a statement and never during a commit. A pooler's FATAL error names no function and proves
// nothing.
func EndedInstead(err error) bool {
	return IsFatal(err) && From(err).Routine == "ProcessInterrupts" && interrupts.has(err)
}

// interrupts are the reasons for which ProcessInterrupts ends a session.
var interrupts = setOf(AdminShutdown, IdleSessionTimeout, IdleInTransactionTimeout, TransactionTimeout)

// SettlesCommit is called with a COMMIT's error. It reports whether the error is the server's answer to the COMMIT, by which
// the transaction is known to be rolled back. An error by which the server has ended the session is not such an answer, nor
// is one from a pooler that has lost the server. pgx's ErrTxCommitRollback is one: the server has answered COMMIT with
// ROLLBACK.
func SettlesCommit(err error) bool {
	if From(err) != nil {
		return !IsFatal(err) && !unanswered.has(err)
	}
	return errors.Is(err, pgx.ErrTxCommitRollback)
}

// unanswered are the codes with which a pooler says that it has lost the server.
var unanswered = setOf(StatementCompletionUnknown, classConnection)

// NotReplicated reports whether a notice says that a transaction is committed on this server, but that no synchronous
// standby has confirmed it, because the wait for one was cancelled or the session is being ended. The notice comes from
// PostgreSQL's function SyncRepWaitForLSN, which does the waiting and sends no other notices.
func NotReplicated(n *pgconn.Notice) bool { return n.Routine == "SyncRepWaitForLSN" }
