// Package profiles has the tests of what Go's execution traces and CPU profiles get to know of statements.
package profiles
