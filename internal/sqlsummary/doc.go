// Package sqlsummary turns the text of a statement into what telemetry may show of it: the operations and the tables it
// names (db.query.summary) and the text without its literals (db.query.text).
//
// It is a lexer and a state machine over its tokens, not a parser of PostgreSQL's grammar: one pass, linear in time,
// with memory for 64 levels of parentheses and one copy of the text. It accepts everything, broken SQL too, and never fails.
//
// # The text
//
// Every literal becomes the placeholder '?', a string in quotes: `?` alone is an operator in PostgreSQL, $1 a parameter.
// So the text stays lexically correct SQL. Literals are numbers, strings of every syntax ('…', E'…', U&'…' UESCAPE '…',
// N'…', B'…', X'…', $tag$…$tag$) and whatever a missing quote leaves open until the end. Literals next to each other,
// which SQL only knows as the continuation of a string, become one placeholder. So does the value of a parameter that
// needs no quotes, SET app.tenant = acme, but for words like on and default. Comments are removed, because they hold what
// programs put there: trace ids, user names, secrets. All else stays as it is: names, quoted ones too, parameters, signs,
// white space, lists, and the words true, false and null. A text with neither literals nor comments is returned as it is,
// the same string. The result is valid UTF-8, as OTLP demands: other bytes become U+FFFD.
//
// The lexical rules are PostgreSQL's with standard_conforming_strings on, the default since 9.1 and the only choice since
// 19: a backslash escapes nothing outside E'…'. A number and the letters glued to it, which is an error since 15, count as
// one literal.
//
// # The summary
//
// Operations and targets stand in the order of the text, in its case and with its quotes, one space between them, in at
// most 255 bytes, cut between tokens: `INSERT a SELECT b`.
//
//   - An operation is the word a statement or a subquery begins with, for CREATE, ALTER and DROP with the kind of object:
//     CREATE TABLE. TEMP, UNIQUE, OR REPLACE and the like are left out; so are the noise words of TRUNCATE TABLE or BEGIN
//     TRANSACTION. VALUES is one only as a statement of its own, TABLE t everywhere. Words that begin no PostgreSQL
//     statement are none: the summary is then empty.
//   - Targets are the tables and views a statement reads, writes, creates, alters or drops, and what CALL, LISTEN, NOTIFY,
//     SET and SHOW name. Other statements (CREATE INDEX, GRANT, COMMENT, …) are named by their first words. Functions in
//     FROM are no targets, nor are the names of CTEs where they are visible. Names that live only in the session and are
//     often generated, such as savepoints, prepared statements and cursors, are none either.
//   - Statements separated by semicolons follow one another, those in the body of a function that is written without
//     quotes (BEGIN ATOMIC) too.
//
// Operation is set where the text has one operation, Collection where one table or view, in one place.
//
// # What else the lexer is good for
//
// Split, FirstWords, CopiesIn and ChangeOf answer what the driver has to know of a text before or after it sends it.
package sqlsummary
