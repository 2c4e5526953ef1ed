package instruments

import (
	"slices"
	"strings"
	"sync"
)

// messages are the messages of PostgreSQL, of poolers and of pgx of which something may be shown, one a line. A message that
// has no such shape isn't shown; translated ones never have. The text between placeholders is shown as it is here. A
// placeholder stands for a part that varies:
//
//	%n  a name, a keyword or an operator: shown if the statement has it outside of literals
//	%t  a type, or several with names and operators: shown as %n, or if it is one of the server's own types
//	%o  the name of a constraint, table or column: shown as %n, or if the server itself has it in a field of the error
//	%s  a token near which a syntax error is: shown as %n, but only if the statement has no quotes that could be misplaced
//	%a  the number of an argument, counted from 0: shown if the statement has the parameter
//	%_  may be a value: never shown
//
// The SQLSTATE doesn't matter. Whoever made an error, only what is here or in the statement can be shown.
const messages = `
syntax error at or near "%s"
syntax error at end of input
unterminated quoted string at or near "%_"
unterminated quoted identifier at or near "%_"
unterminated dollar-quoted string at or near "%_"
unterminated /* comment at or near "%_"
trailing junk after numeric literal at or near "%_"
trailing junk after parameter at or near "%_"
zero-length delimited identifier at or near "%_"
cannot insert multiple commands into a prepared statement
INSERT has more expressions than target columns
INSERT has more target columns than expressions
VALUES lists must all be the same length
each %n query must have the same number of columns
subquery must return only one column
subquery has too many columns
subquery has too few columns
subquery in FROM must have an alias
SELECT * with no tables specified is not valid
multiple assignments to same column "%n"
a column definition list is required for functions returning "record"
ON CONFLICT DO UPDATE requires inference specification or constraint name
conflicting or redundant options
DEFAULT is not allowed in this context

relation "%n" does not exist
relation "%n" already exists
table "%n" does not exist
view "%n" does not exist
materialized view "%n" does not exist
foreign table "%n" does not exist
index "%n" does not exist
sequence "%n" does not exist
schema "%n" does not exist
schema "%n" already exists
type "%n" does not exist
type "%n" already exists
type "%n" is only a shell
role "%n" does not exist
role "%n" already exists
database "%n" does not exist
database "%n" already exists
extension "%n" does not exist
extension "%n" already exists
extension "%n" is not available
extension "%n" must be installed in schema "%n"
publication "%n" does not exist
publication "%n" already exists
subscription "%n" does not exist
collation "%n" for encoding "%_" does not exist
language "%n" does not exist
operator class "%n" does not exist for access method "%n"
access method "%n" does not exist
text search configuration "%n" does not exist
tablespace "%n" does not exist
constraint "%n" does not exist
constraint "%n" for table "%n" does not exist
constraint "%n" of relation "%n" does not exist
constraint "%n" for relation "%n" already exists
trigger "%n" for table "%n" does not exist
trigger "%n" for relation "%n" already exists
policy "%n" for table "%n" does not exist
policy "%n" for table "%n" already exists
rule "%n" for relation "%n" does not exist
column "%n" does not exist
column "%n" of relation "%n" does not exist
column "%n" of relation "%n" already exists
column %n does not exist
column "%n" named in key does not exist
column "%n" referenced in foreign key constraint does not exist
column "%n" specified in USING clause does not exist in left table
column "%n" specified in USING clause does not exist in right table
column "%n" specified more than once
column name "%n" specified more than once
column reference "%n" is ambiguous
column "%n" must appear in the GROUP BY clause or be used in an aggregate function
column "%n" is of type %t but expression is of type %t
column "%n" cannot be cast automatically to type %t
column "%n" can only be updated to DEFAULT
cannot insert a non-DEFAULT value into column "%n"
column "%n" of relation "%o" contains null values
record "%n" has no field "%n"
could not identify column "%n" in record data type
table name "%n" specified more than once
missing FROM-clause entry for table "%n"
invalid reference to FROM-clause entry for table "%n"
function %t does not exist
function %t is not unique
function "%n" already exists with same argument types
function "%n" does not exist
procedure %t does not exist
procedure %t is not unique
aggregate %t does not exist
operator does not exist: %t
operator is not unique: %t
cannot cast type %t to %t
%n types %t and %t cannot be matched
%n could not convert type %t to %t
argument of %n must be type %t, not type %t
argument of %n must not return a set
could not identify an equality operator for type %t
could not identify an ordering operator for type %t
could not determine data type of parameter %n
could not determine polymorphic type because input has type %t
inconsistent types deduced for parameter %n
there is no parameter %n
aggregate functions are not allowed in %n
window functions are not allowed in %n
set-returning functions are not allowed in %n
aggregate function calls cannot be nested
for SELECT DISTINCT, ORDER BY expressions must appear in select list
SELECT DISTINCT ON expressions must match initial ORDER BY expressions
ORDER BY position %_ is not in select list
GROUP BY position %_ is not in select list
FOR UPDATE is not allowed with %n
FOR UPDATE cannot be applied to the nullable side of an outer join
there is no unique or exclusion constraint matching the ON CONFLICT specification
there is no unique constraint matching given keys for referenced table "%n"
multiple primary keys for table "%n" are not allowed
cannot insert into view "%n"
cannot update view "%n"
cannot delete from view "%n"
cannot insert into column "%n" of view "%n"
cannot change name of view column "%n" to "%n"
"%n" is not a table
"%n" is not a view
"%n" is not a sequence
"%n" is not an index
"%n" is not a materialized view
cannot drop %n because other objects depend on it
role "%n" cannot be dropped because some objects depend on it
cannot %n "%n" because it is being used by active queries in this session
cannot %n "%n" because it has pending trigger events
database "%n" is being accessed by other users
no schema has been selected to create in
%n cannot run inside a transaction block
%n cannot be executed from a function
%n cannot be executed from a function or multi-command string
%n cannot be executed within a pipeline
%n can only be used in transaction blocks
cross-database references are not implemented: %_
cached plan must not change result type
cannot use more than %_ columns in an index

unrecognized configuration parameter "%n"
invalid value for parameter "%n": "%_"
invalid value for parameter "%n": %_
%_ is outside the valid range for parameter "%n" (%_)
parameter "%n" requires a numeric value
parameter "%n" requires a Boolean value
parameter "%n" cannot be changed
parameter "%n" cannot be changed now
parameter "%n" cannot be changed without restarting the server
parameter "%n" cannot be set after connection start
parameter "%n" cannot be set locally in functions
permission denied to set parameter "%n"

permission denied for table %n
permission denied for view %n
permission denied for materialized view %n
permission denied for foreign table %n
permission denied for relation %n
permission denied for sequence %n
permission denied for schema %n
permission denied for database %n
permission denied for function %n
permission denied for procedure %n
permission denied for language %n
permission denied for type %n
permission denied for tablespace %n
permission denied for foreign server %n
permission denied for column "%n" of relation "%n"
permission denied for large object %_
permission denied for publication %n
permission denied to create database
permission denied to create role
permission denied to create extension "%n"
permission denied to alter role
permission denied to drop role
permission denied to set role "%n"
permission denied to set session authorization
permission denied to terminate process
permission denied to cancel query
permission denied to COPY to or from a file
permission denied to COPY to or from an external program
must be owner of table %n
must be owner of relation %n
must be owner of view %n
must be owner of materialized view %n
must be owner of index %n
must be owner of sequence %n
must be owner of schema %n
must be owner of database %n
must be owner of function %n
must be owner of procedure %n
must be owner of type %n
must be owner of extension %n
must be owner of publication %n
must be superuser to alter superusers
must be superuser to create superusers
must be superuser to bypass RLS
must be superuser or a member of the pg_read_server_files role to COPY from a file
must be superuser or a member of the pg_write_server_files role to COPY to a file
must be superuser or have privileges of the pg_read_server_files role to COPY from a file
must be superuser or have privileges of the pg_write_server_files role to COPY to a file
must be able to SET ROLE "%n"
must be member of role "%n"
new row violates row-level security policy for table "%o"
new row violates row-level security policy "%_" for table "%o"
new row violates row-level security policy (USING expression) for table "%o"
new row violates row-level security policy "%_" (USING expression) for table "%o"
query would be affected by row-level security policy for table "%o"

duplicate key value violates unique constraint "%o"
conflicting key value violates exclusion constraint "%o"
could not create unique index "%o"
could not create exclusion constraint "%o"
null value in column "%o" of relation "%o" violates not-null constraint
null value in column "%o" violates not-null constraint
new row for relation "%o" violates check constraint "%o"
new row for relation "%o" violates partition constraint
new row violates check option for view "%o"
check constraint "%o" of relation "%o" is violated by some row
no partition of relation "%o" found for row
insert or update on table "%o" violates foreign key constraint "%o"
update or delete on table "%o" violates foreign key constraint "%o" on table "%o"
update or delete on table "%o" violates RESTRICT setting of foreign key constraint "%o" on table "%o"
value for domain %o violates check constraint "%o"
domain %o does not allow null values
ON CONFLICT DO UPDATE command cannot affect row a second time
MERGE command cannot affect row a second time
more than one row returned by a subquery used as an expression
query returned no rows
query returned more than one row
query has no destination for result data
control reached end of function without RETURN

invalid input syntax for type %t: "%_"
invalid input syntax for type %t
invalid input value for enum %t: "%_"
value "%_" is out of range for type %t
"%_" is out of range for type %t
value too long for type character varying(%_)
value too long for type character(%_)
bit string length %_ does not match type bit(%_)
bit string too long for type bit varying(%_)
malformed array literal: "%_"
malformed range literal: "%_"
malformed record literal: "%_"
date/time field value out of range: "%_"
date/time field value out of range: %_
interval field value out of range: "%_"
timestamp out of range
timestamp out of range: "%_"
date out of range for timestamp
date out of range: "%_"
interval out of range
time zone "%_" not recognized
time zone displacement out of range: "%_"
unit "%_" not recognized for type %t
unit "%_" not supported for type %t
smallint out of range
integer out of range
bigint out of range
oid out of range
numeric field overflow
value out of range: overflow
value out of range: underflow
value overflows numeric format
division by zero
zero raised to a negative power is undefined
a negative number raised to a non-integer power yields a complex result
cannot take logarithm of zero
cannot take logarithm of a negative number
cannot take square root of a negative number
input is out of range
step size cannot equal zero
negative substring length not allowed
LIMIT must not be negative
OFFSET must not be negative
index %_ out of valid range, %_
array subscript out of range
number of array dimensions (%_) exceeds the maximum allowed (%_)
array size exceeds the maximum allowed (%_)
cannot accumulate arrays of different dimensionality
cannot get array length of a scalar
cannot get array length of a non-array
cannot extract elements from a scalar
cannot extract elements from an object
cannot call %n on a scalar
cannot call %n on a non-object
cannot call %n on an array
cannot cast jsonb %_ to type %t
unsupported Unicode escape sequence
null value not allowed for object key
invalid byte sequence for encoding "UTF8": %_
invalid byte sequence for encoding "%_": %_
character with byte sequence %_ in encoding "%_" has no equivalent in encoding "%_"
null character not permitted
requested character too large
requested character too large for encoding: %_
requested character not valid for encoding: %_
invalid regular expression: %_
invalid escape string
invalid hexadecimal digit: "%_"
invalid hexadecimal data: odd number of digits
invalid base64 end sequence
invalid large-object descriptor: %_
large object %_ does not exist
extra data after last expected column
missing data for column "%n"
unterminated CSV quoted field
end-of-copy marker corrupt
COPY file signature not recognized
incorrect binary data format
incorrect binary data format in bind parameter %_
insufficient data left in message
bind message supplies %_ parameters, but prepared statement "%_" requires %_
bind message has %_ result formats but query has %_ columns
invalid message format
invalid frontend message type %_
prepared statement "%_" does not exist
prepared statement "%_" already exists
unnamed prepared statement does not exist
portal "%_" does not exist
cursor "%n" does not exist
cursor "%n" already exists
savepoint "%n" does not exist
unsafe use of new value "%_" of enum type %t

current transaction is aborted, commands ignored until end of transaction block
there is already a transaction in progress
there is no transaction in progress
cannot execute %n in a read-only transaction
cannot execute %n during recovery
cannot execute %n during a parallel operation
invalid transaction termination
transaction read-write mode must be set before any query
cannot set transaction read-write mode inside a read-only transaction
SET TRANSACTION ISOLATION LEVEL must be called before any query
deadlock detected
could not serialize access due to concurrent update
could not serialize access due to concurrent delete
could not serialize access due to read/write dependencies among transactions
tuple to be locked was already moved to another partition due to concurrent update
tuple to be updated was already modified by an operation triggered by the current command
tuple to be deleted was already modified by an operation triggered by the current command
tuple to be updated or deleted was already modified by an operation triggered by the current command
could not obtain lock on relation "%n"
could not obtain lock on row in relation "%n"
snapshot too old
canceling statement due to statement timeout
canceling statement due to user request
canceling statement due to lock timeout
canceling statement due to conflict with recovery
canceling authentication due to timeout
COPY from stdin failed: %_
terminating connection due to administrator command
terminating connection due to conflict with recovery
terminating connection due to idle-in-transaction timeout
terminating connection due to idle-session timeout
terminating connection due to transaction timeout
terminating connection due to immediate shutdown command
terminating connection due to unexpected postmaster exit
terminating connection because of crash of another server process
terminating connection because protocol synchronization was lost
connection to client lost
the database system is starting up
the database system is shutting down
the database system is in recovery mode
the database system is not yet accepting connections
the database system is not accepting connections
sorry, too many clients already
remaining connection slots are reserved for non-replication superuser connections
remaining connection slots are reserved for roles with the SUPERUSER attribute
remaining connection slots are reserved for roles with privileges of the "pg_use_reserved_connections" role
too many connections for role "%n"
too many connections for database "%n"
out of memory
out of shared memory
could not extend file "%_": No space left on device
could not write to file "%_": No space left on device
could not write file "%_": No space left on device
could not resize shared memory segment "%_" to %_ bytes: No space left on device
temporary file size exceeds temp_file_limit (%_kB)
stack depth limit exceeded
invalid memory alloc request size %_
target lists can have at most %_ entries
tables can have at most %_ columns
row is too big: size %_, maximum size %_
index row size %_ exceeds btree version %_ maximum %_ for index "%n"
index row requires %_ bytes, maximum size is %_
string is too long for tsvector (%_ bytes, max %_ bytes)
cannot enlarge string buffer containing %_ bytes by %_ more bytes
too many notifications in the NOTIFY queue
payload string too long
channel name too long
lastval is not yet defined in this session
currval of sequence "%n" is not yet defined in this session
nextval: reached maximum value of sequence "%n" (%_)
materialized view "%n" has not been populated
cannot refresh materialized view "%n" concurrently
prepared transactions are disabled
wal_level is insufficient to publish logical changes

cache lookup failed for %_
could not open relation with OID %_
could not open file "%_" for reading: No such file or directory
could not open file "%_" for reading: Permission denied
could not open file "%_": No such file or directory
could not open file "%_": Permission denied
could not read block %_ in file "%_": Input/output error
could not read block %_ in file "%_": read only %_ of %_ bytes
could not write block %_ in file "%_": Input/output error
could not access status of transaction %_
could not load library "%_": %_
invalid page in block %_ of relation %_
index "%n" contains unexpected zero page at block %_
index "%n" contains corrupted page at block %_
missing chunk number %_ for toast value %_ in %_
unexpected chunk number %_ (expected %_) for toast value %_ in %_
tuple concurrently updated
tuple concurrently deleted
attempted to delete invisible tuple
attempted to update invisible tuple
could not find pathkey item to sort
variable not found in subplan target list

database "%n" has a collation version mismatch
canceling wait for synchronous replication due to user request
canceling the wait for synchronous replication and terminating connection due to administrator command
you don't own a lock of type %_
nonstandard use of escape in a string literal
nonstandard use of \\ in a string literal
nonstandard use of \' in a string literal
no privileges were granted for "%n"
not all privileges were granted for "%n"
no privileges could be revoked for "%n"
skipping "%n" --- only table or database owner can vacuum it
skipping "%n" --- only table or database owner can analyze it
permission denied to vacuum "%n", skipping it
permission denied to analyze "%n", skipping it
PID %_ is not a PostgreSQL server process
PID %_ is not a PostgreSQL backend process
setting an MD5-encrypted password

query_wait_timeout
query_timeout
client_idle_timeout
client_login_timeout
idle_transaction_timeout
idle transaction timeout
transaction_timeout
server conn crashed?
server_lifetime
server_idle_timeout
server shutting down
server closed the connection unexpectedly
server login has been failing, try again later (server_login_retry)
server login has been failing, cached error: %_
pgbouncer cannot connect to server
pgbouncer is shutting down
no more connections allowed (max_client_conn)
unsupported startup parameter: %_
unsupported startup parameter in options: %_

expected %_ arguments, got %_
mismatched param and argument count
extended protocol limited to 65535 parameters
failed to encode args[%a]: %_
can't scan into dest[%_] (col: %n): %_
can't scan into dest[%_]: %_
number of field descriptions must equal number of destinations, got %_ and %_
insufficient arguments
commit unexpectedly resulted in rollback
conn busy
conn closed
tx is closed
unable to map destination
unexpected EOF
`

// shapes are the messages as shapes, made at first use. Those with the most text come first: a message that fits several is
// shown by the one of which the most may be shown.
var shapes = sync.OnceValue(func() (all []shape) {
	for line := range strings.Lines(messages) {
		if line = strings.TrimSuffix(line, "\n"); line != "" {
			all = append(all, newShape(line))
		}
	}
	slices.SortStableFunc(all, func(a, b shape) int { return b.length() - a.length() })
	return all
})

// A shape is a message with placeholders: a text, a placeholder, a text, …, and a text at the end.
type shape struct {
	texts []string // what is between the placeholders; one more than kinds, and may be ""
	kinds []byte   // of the placeholders: the letter after %
}

// newShape returns the shape of a line of messages.
func newShape(line string) (s shape) {
	for {
		text, rest, found := strings.Cut(line, "%")
		s.texts = append(s.texts, text)
		if !found {
			return s
		}
		s.kinds = append(s.kinds, rest[0])
		line = rest[1:]
	}
}

// length is how many bytes of a message are text and not placeholders.
func (s shape) length() (n int) {
	for _, text := range s.texts {
		n += len(text)
	}
	return n
}

// match reports whether a message has this shape, and returns the parts that are in the place of the placeholders. If they
// can be divided in several ways the result is one of them, which is safe: whether to show a part is decided for each alone.
func (s shape) match(message string) (parts []string, ok bool) {
	rest, ok := strings.CutPrefix(message, s.texts[0])
	if !ok || len(s.kinds) == 0 {
		return nil, ok && rest == ""
	}
	last := len(s.texts) - 1
	if rest, ok = strings.CutSuffix(rest, s.texts[last]); !ok {
		return nil, false
	}
	for _, text := range s.texts[1:last] {
		part, after, found := strings.Cut(rest, text)
		if !found {
			return nil, false
		}
		parts, rest = append(parts, part), after
	}
	return append(parts, rest), true
}

// fill returns the message with show's result in place of each part.
func (s shape) fill(parts []string, show func(kind byte, part string) string) string {
	var b strings.Builder
	for i, part := range parts {
		b.WriteString(s.texts[i])
		b.WriteString(show(s.kinds[i], part))
	}
	b.WriteString(s.texts[len(s.texts)-1])
	return b.String()
}

// typeWords are the words that the names of the server's own types are made of.
var typeWords = setOf(`anyarray anyelement anyenum anynonarray anyrange anycompatible array bigint bit boolean
	box bytea char character cidr circle citext cstring date daterange double enum float hstore inet int int2 int4 int4range
	int8 int8range integer internal interval json jsonb jsonpath line lseg macaddr macaddr8 money name numeric numrange oid
	path point polygon precision real record regclass regproc regprocedure regrole regtype regnamespace set smallint text
	tid time timestamp timestamptz timetz timezone trigger tsquery tsrange tstzrange tsvector txid_snapshot unknown uuid
	varbit varchar variadic varying vector void with without xid xid8 xml zone`)

// setOf returns the set of the words of a text.
func setOf(words string) map[string]bool {
	set := map[string]bool{}
	for word := range strings.FieldsSeq(words) {
		set[word] = true
	}
	return set
}
