package pgerror

import (
	"cmp"

	"github.com/jackc/pgx/v5/pgconn"
)

// The SQLSTATEs that pgprod looks at. Each comment begins with PostgreSQL's name of the condition, from appendix A of its
// manual.
const (
	FeatureNotSupported        = "0A000" // feature_not_supported; also: a cached plan must not change its result's types
	ProtocolViolation          = "08P01" // protocol_violation; PgBouncer's code for almost everything
	InvalidParameterValue      = "22023" // invalid_parameter_value: a setting can't have this value
	UniqueViolation            = "23505" // unique_violation
	ReadOnlyTransaction        = "25006" // read_only_sql_transaction: it wrote, and the transaction or the server is read-only
	InFailedTransaction        = "25P02" // in_failed_sql_transaction: a statement has failed, only ROLLBACK is left
	IdleInTransactionTimeout   = "25P03" // idle_in_transaction_session_timeout, which ends the session
	TransactionTimeout         = "25P04" // transaction_timeout, which ends the session
	InvalidStatementName       = "26000" // invalid_sql_statement_name: there is no prepared statement of this name
	InvalidAuthorization       = "28000" // invalid_authorization_specification: pg_hba.conf or the role forbid the login
	InvalidPassword            = "28P01" // invalid_password
	InvalidCatalogName         = "3D000" // invalid_catalog_name: there is no database of this name
	SerializationFailure       = "40001" // serialization_failure
	InvalidSchemaName          = "3F000" // invalid_schema_name: there is no schema of this name
	StatementCompletionUnknown = "40003" // statement_completion_unknown
	DeadlockDetected           = "40P01" // deadlock_detected
	InsufficientPrivilege      = "42501" // insufficient_privilege
	InvalidName                = "42602" // invalid_name: a setting can't have this name
	UndefinedColumn            = "42703" // undefined_column
	UndefinedObject            = "42704" // undefined_object: at login, a setting that the server doesn't know
	UndefinedTable             = "42P01" // undefined_table
	TooManyConnections         = "53300" // too_many_connections
	CantChangeRuntimeParam     = "55P02" // cant_change_runtime_param: a session can't change this setting
	LockNotAvailable           = "55P03" // lock_not_available: by lock_timeout, or NOWAIT
	QueryCanceled              = "57014" // query_canceled: by a cancel request, or by statement_timeout
	AdminShutdown              = "57P01" // admin_shutdown; pg_terminate_backend says the same of a single session
	CrashShutdown              = "57P02" // crash_shutdown: another backend crashed, all sessions end
	CannotConnectNow           = "57P03" // cannot_connect_now: the server starts, stops or recovers
	IdleSessionTimeout         = "57P05" // idle_session_timeout, which ends the session
	DSQLDataConflict           = "OC000" // Aurora DSQL: a change of the same data was committed meanwhile
	DSQLSchemaConflict         = "OC001" // Aurora DSQL: the schema was changed meanwhile
	InternalError              = "XX000" // internal_error; also: cache lookup failed for a type that was dropped
)

// The classes of SQLSTATEs that pgprod looks at. A class is the first two characters of all codes that belong to it.
const (
	classConnection    = "08" // Connection Exception
	classData          = "22" // Data Exception
	classConstraint    = "23" // Integrity Constraint Violation
	classAuthorization = "28" // Invalid Authorization Specification
	classRollback      = "40" // Transaction Rollback
	classSyntaxOrRight = "42" // Syntax Error or Access Rule Violation
	classResources     = "53" // Insufficient Resources
	classOperator      = "57" // Operator Intervention
	classSystem        = "58" // System Error: of the operating system, such as one of input and output
	classInternal      = "XX" // Internal Error
)

// class returns the class of a code. Servers that only speak PostgreSQL's protocol may send a code that is shorter than a
// class.
func class(code string) string { return code[:min(2, len(code))] }

// codes is a set of SQLSTATEs, each given by itself or by its class.
type codes map[string]bool

// setOf returns the set of the given SQLSTATEs and classes.
func setOf(members ...string) codes {
	set := codes{}
	for _, member := range members {
		set[member] = true
	}
	return set
}

// has reports whether err is the server's, with a code of the set.
func (c codes) has(err error) bool {
	pg := From(err)
	return pg != nil && (c[pg.Code] || c[class(pg.Code)])
}

// Subject says what an error is about, by the class of its SQLSTATE. Its words may be shown in place of the message, which
// may contain values.
func Subject(pg *pgconn.PgError) string { return cmp.Or(subjects[class(pg.Code)], "an error") }

// subjects has a few words for each class of SQLSTATEs that PostgreSQL has.
var subjects = map[string]string{
	"01": "a warning", "02": "no data", "03": "the statement is not complete yet", "08": "an error of the connection",
	"09": "a trigger's error", "0A": "a feature that is not supported", "0B": "invalid initiation of a transaction",
	"0F": "an invalid locator", "0L": "an invalid grantor", "0P": "an invalid role", "0Z": "an error of diagnostics",
	"20": "a case that was not found", "21": "a violated cardinality", "22": "an error in the data",
	"23": "a violated constraint", "24": "an invalid cursor", "25": "an invalid state of the transaction",
	"26": "an invalid name of a statement", "27": "a change of data that a trigger makes invalid",
	"28": "an error of authorization", "2B": "privileges that others depend on", "2D": "an invalid end of a transaction",
	"2F": "an error of a function", "34": "an invalid name of a cursor", "38": "an error of a function",
	"39": "an error of calling a function", "3B": "an error of a savepoint", "3D": "an invalid name of a database",
	"3F": "an invalid name of a schema", "40": "a transaction that was rolled back",
	"42": "a syntax error, a name that is not known, or a missing right", "44": "a violated check option",
	"53": "too few resources", "54": "an exceeded limit of the server",
	"55": "an object that is not in the state that it has to be in", "57": "an intervention of an operator",
	"58": "an error of the system", "F0": "an error of the configuration", "HV": "an error of a foreign data wrapper",
	"P0": "an exception of a function", "XX": "an internal error of the server",
}
