// Package sqlsummary turns the text of a statement into what telemetry may show of it: its operations with the tables that
// they are about (db.query.summary), and the text without its literals (db.query.text).
//
// It is a lexer and a state machine over the lexer's tokens, not a parser of PostgreSQL's grammar. It reads a text once, in
// linear time, with memory for 64 levels of parentheses and one copy of the text. It accepts everything, broken SQL too, and
// never fails.
//
//	summary.go   Parse, and how a summary is put together
//	cache.go     Cache remembers what Parse made of a text
//	sanitise.go  the text without literals and comments
//	lexer.go, literal.go, keyword.go  the lexer, and the words that it knows
//	parser.go, name.go  the state machine: parentheses, names of tables, CTEs
//	query.go, with.go, modify.go, ddl.go, utility.go  its states, by kinds of statements
//	changes.go, copyin.go, has.go, split.go  other questions that the lexer answers
//
// # The text
//
// Each literal becomes the placeholder '?', a string in quotes: ? alone is an operator in PostgreSQL, and $1 is a parameter.
// So the text stays lexically correct SQL. Literals are numbers, strings of every syntax ('…', E'…', U&'…' UESCAPE '…',
// N'…', B'…', X'…', $tag$…$tag$), and what follows a quote that isn't closed. Literals next to each other become one
// placeholder: in SQL, the second one continues a string. The value of a setting may have no quotes (SET app.tenant = acme);
// it becomes a placeholder too, except for words such as on and default.
//
// Comments are removed, since programs write trace ids, user names and secrets there. All else stays as it is: names, quoted
// ones too, parameters, signs, white space, lists, and the words true, false and null. A text with neither literals nor
// comments is returned as the same string. The result is valid UTF-8, as OTLP demands: other bytes become U+FFFD.
//
// The lexical rules are PostgreSQL's with standard_conforming_strings on, which is the default since 9.1 and the only choice
// since 19: a backslash is an escape only in E'…'. A number and the letters that touch it are one literal; PostgreSQL
// refuses them since 15.
//
// # The summary
//
// A summary has the operations and targets in the order of the text, as they are written there, with one space between them.
// It has at most 255 bytes, and is cut between tokens: `INSERT a SELECT b`.
//
//   - An operation is the word that a statement or a subquery begins with; for CREATE, ALTER and DROP with the kind of
//     object, as CREATE TABLE. Words such as TEMP, UNIQUE and OR REPLACE are left out, and so are TABLE in TRUNCATE TABLE
//     and TRANSACTION in BEGIN TRANSACTION. VALUES is an operation only as a statement of its own, TABLE t everywhere. A
//     word that begins no statement of PostgreSQL is no operation: the summary is then empty.
//   - Targets are the tables and views that a statement reads, writes, creates, alters or drops, and what CALL, LISTEN,
//     NOTIFY, SET and SHOW name. Other statements (CREATE INDEX, GRANT, COMMENT, …) have only their first words. Functions
//     in FROM are no targets, nor are the names of CTEs where they are visible. Neither are names that exist only in the
//     session and are often generated, such as those of savepoints, prepared statements and cursors.
//   - Statements that are separated by semicolons follow one another. So do those in the body of a function that is written
//     without quotes (BEGIN ATOMIC).
//
// # What else the lexer answers
//
// Split, FirstWords, CopiesIn, ChangeOf and Has tell the driver what it has to know of a text.
package sqlsummary
