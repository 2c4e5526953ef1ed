// Package rivals is the part of the laboratory that has what others run PostgreSQL with: Patroni with etcd, pg_auto_failover,
// HAProxy and pgpool-II, from Debian. Under load of the same inserts by pgprod, by pgx's driver for database/sql and by pgxpool,
// with the same DSN and through the proxies, it switches primaries over and kills them, and prints what that cost each client.
//
//	.ci/run lab
//	go test -tags lab -v -count=1 -timeout 0 ./internal/lab/rivals -runs 5
//
// It needs Linux and these packages (or those of the distribution's version of PostgreSQL), without which its tests fail:
//
//	apt-get install --no-install-recommends postgresql-15 etcd-server patroni haproxy pgpool2 \
//		pg-auto-failover-cli postgresql-15-auto-failover
//
// Everything runs as the account of package pgtest, on loopback addresses and in temporary directories, below a guard: this
// test's own program, which ends all that the program it guards has started, wherever that has gone, when the test says so or
// dies.
//
// The assertions are about pgprod: nothing that was acknowledged is lost, nothing is there twice, nothing is there that was said
// not to be, and a planned switchover costs no error, but where the server says that it has ended a session at its commit, before a
// synchronous standby had confirmed that, so that nobody can know. Times are printed, never asserted.
package rivals
