// Package oracle compares pgprod with plain pgx. Its test draws programs of database/sql calls, runs each on the driver
// "pgx" and on "pgprod", against two databases of one real server that begin with the same contents, and compares after
// each step what the program sees: values, columns, numbers of rows, errors, what is committed in the end, and what the
// next borrower of a connection finds. pgx is the oracle: where pgprod answers otherwise, either a row of the table of
// differences says so, with the sentence of README.md or internal/docs that promises it, or it is a bug.
//
//	go test ./internal/oracle                                    some hundred programs, the same ones each time, as in CI
//	go test ./internal/oracle -programs 1000000 -timeout 3h      others, until the time is up or something is found
//	go test ./internal/oracle -rapid.seed 4711                   the programs of that seed
//
// A program that is answered differently is shrunk, and printed step by step with both answers and with its seed.
//
// In the order to read: program_test.go (what a program is), statements_test.go (the texts and arguments that it is made
// of), draw_test.go (how one is drawn), world_test.go (the handles that it has on one driver), steps_test.go (how a step
// is done), observation_test.go (what is noted of it), compare_test.go (both at once), differences_test.go (the table of
// what differs on purpose), oracle_test.go (the tests), mutation_test.go (that a known bug is found by itself).
package oracle
