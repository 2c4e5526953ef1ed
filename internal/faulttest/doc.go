// Package faulttest holds the tests of what the driver does while things break: replies lost, connections killed,
// servers restarted, crashed, frozen, cut off, or speaking nonsense. They use the public API only, on real servers, with
// the faults injected into real connections, and do the same to plain pgx where it falls short.
//
// TestLedger has two flags, and a soak form: go test -run Ledger -duration 30m -timeout 0 ./internal/faulttest
package faulttest
