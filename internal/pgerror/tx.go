package pgerror

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// IsConflict reports whether the server rolled a transaction back because it was in conflict with another one (serialization
// failure, deadlock). If it is begun again it may succeed.
func IsConflict(err error) bool { return conflicts.has(err) }

var conflicts = setOf(SerializationFailure, DeadlockDetected, DSQLDataConflict, DSQLSchemaConflict)

// IsRecoveryConflict reports whether a standby has ended a statement or a session since it stood in the way of what the
// standby had to replay. It may do so again until it has caught up.
func IsRecoveryConflict(err error) bool {
	pg := From(err)
	return pg != nil && pg.Code == SerializationFailure && strings.HasPrefix(pg.Routine, "Process") // …Interrupts, …RecoveryConflictInterrupt
}

// EndedInstead reports whether the server says that it ended the session in place of the statement whose error it is, a
// COMMIT or another one, and so rolled back what the statement had done. The error then comes from PostgreSQL's function
// ProcessInterrupts, which runs between two steps of a statement and never during a commit, or from secure_read, which waits
// for the client's next message, and so has not got the statement, when it sees that the postmaster is gone. A pooler's FATAL
// error names no function and proves nothing. Nor does the error of a statement that is committed by then: see
// wire.Tap.Committed.
func EndedInstead(err error) bool {
	if !IsFatal(err) {
		return false
	}
	switch From(err).Routine {
	case processInterrupts:
		return interrupts.has(err)
	case secureRead:
		return postmasterGone.has(err)
	}
	return false
}

// These are the functions of PostgreSQL that end sessions in between.
const (
	processInterrupts = "ProcessInterrupts"
	secureRead        = "secure_read"
)

// postmasterGone is how secure_read says that the postmaster was killed.
var postmasterGone = setOf(AdminShutdown)

// interrupts are the reasons for which ProcessInterrupts ends a session.
var interrupts = setOf(AdminShutdown, IdleSessionTimeout, IdleInTransactionTimeout, TransactionTimeout, SerializationFailure)

// WorkerEnded reports whether a statement has failed since the server has ended one of its parallel workers, as it does when
// it shuts down. The session may go on, or end with the next statement.
func WorkerEnded(err error) bool {
	pg := From(err)
	return pg != nil && !IsFatal(err) && pg.Code == AdminShutdown && pg.Routine == processInterrupts
}

// TookTooLong reports whether the server has ended a session because of the time that its transaction took, which it would
// take again.
func TookTooLong(err error) bool { return tooLong.has(err) }

var tooLong = setOf(TransactionTimeout)

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

// ServerLost reports whether a pooler says that it has lost the server, so that it isn't known what became of the statement.
func ServerLost(err error) bool { return unanswered.has(err) && From(err).Routine == "" }

// IsDuplicate reports whether a row was refused since there is one with the same key.
func IsDuplicate(err error) bool { return duplicates.has(err) }

var duplicates = setOf(UniqueViolation)

// HasNoTable reports whether a statement names a table, or a column, that the server doesn't have.
func HasNoTable(err error) bool { return noTable.has(err) }

var noTable = setOf(UndefinedTable, UndefinedColumn, InvalidSchemaName)

// LacksPrivilege reports whether the role isn't allowed to do what a statement does.
func LacksPrivilege(err error) bool { return lacksPrivilege.has(err) }

var lacksPrivilege = setOf(InsufficientPrivilege)

// NotReplicated reports whether a notice says that a transaction is committed on this server, but that no synchronous
// standby has confirmed it, because the wait for one was cancelled or the session is being ended. The notice comes from
// PostgreSQL's function SyncRepWaitForLSN, which does the waiting and sends no other notices.
func NotReplicated(n *pgconn.Notice) bool { return n.Routine == "SyncRepWaitForLSN" }
