// Package benchmark compares pgprod with what else a program could use, on the same work in one run:
//
//	go test -run '^$' -bench . ./...
//
// It is a module of its own, so that the peers are nobody's dependencies.
package benchmark
