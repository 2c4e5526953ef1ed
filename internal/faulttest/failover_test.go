package faulttest

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// twoServers are a primary and its standby.
func twoServers(t *testing.T, settings map[string]string) (primary, standby *pgtest.Server) {
	t.Helper()
	primary = pgtest.StartTB(t, pgtest.Config{Settings: settings})
	standby = pgtest.StartTB(t, pgtest.Config{
		StandbyOf: primary, Settings: map[string]string{"wal_retrieve_retry_interval": "50ms"},
	})
	require.NoError(t, primary.Exec(t.Context(), "create table writes (id bigint primary key, note text)"))
	require.NoError(t, standby.CatchUp(t.Context()))
	return primary, standby
}

// hostsDSN names several servers, in this order.
func hostsDSN(attrs string, servers ...*pgtest.Server) string {
	hosts := ""
	for i, s := range servers {
		if i > 0 {
			hosts += ","
		}
		hosts += net.JoinHostPort(s.Host(), fmt.Sprint(s.Port()))
	}
	return "postgres://postgres@" + hosts + "/postgres?sslmode=disable&target_session_attrs=" + attrs
}

// writers are workers that insert rows, each a new one, and note which were acknowledged.
type writers struct {
	*crowd
	next atomic.Int64

	mu    sync.Mutex // guards acked
	acked []int64
}

func startWriters(t *testing.T, n int, db *sql.DB) *writers {
	w := &writers{}
	w.crowd = startCrowd(t, n, func(int) error {
		id := w.next.Add(1)
		if _, err := db.Exec("insert into writes values ($1)", id); err != nil {
			return err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.acked = append(w.acked, id)
		return nil
	})
	return w
}

// requireKept checks that no acknowledged row is missing. None can be there twice, the key sees to that: it would be an
// error of the second attempt.
func (w *writers) requireKept(t *testing.T, db *sql.DB) {
	t.Helper()
	rows, err := db.Query("select id from writes")
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	found := map[int64]bool{}
	for rows.Next() {
		var id int64
		require.NoError(t, rows.Scan(&id))
		found[id] = true
	}
	require.NoError(t, rows.Err())
	for _, id := range w.acked {
		if !found[id] {
			t.Errorf("row %d was acknowledged and is lost", id)
		}
	}
	for _, err := range w.failures() {
		assert.NotEqual(t, "23505", sqlState(err), "run twice: %v", err)
	}
	assert.LessOrEqual(t, len(found), len(w.acked)+len(w.failures()))
}

func TestWritesGoOnAfterAFailover(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(context.Context, *pgtest.Server) error{
		"shutdown": func(ctx context.Context, s *pgtest.Server) error { return s.Shutdown(ctx, pgtest.Fast) },
		"crash":    func(_ context.Context, s *pgtest.Server) error { return s.Crash() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			primary, standby := twoServers(t, map[string]string{"synchronous_commit": "on"})
			// What is acknowledged must be on the standby, or it would be the servers that lose it.
			require.NoError(t, primary.Exec(t.Context(), "alter system set synchronous_standby_names = '*'"))
			require.NoError(t, primary.Exec(t.Context(), "select pg_reload_conf()"))
			c := newClient(t, hostsDSN("read-write", primary, standby))
			const workers = 8
			load := startWriters(t, workers, c.DB)
			load.advance(t, 20)
			port := c.count("select inet_server_port()")
			assert.Equal(t, primary.Port(), port)

			require.NoError(t, end(t.Context(), primary))
			require.NoError(t, standby.Promote(t.Context()))
			promoted := time.Now()
			load.advance(t, 1)
			t.Logf("each of %d workers wrote again %v after the promotion, %d errors", workers,
				time.Since(promoted).Round(time.Millisecond), len(load.failures()))
			load.advance(t, 20)
			load.finish()
			load.requireAtMost(t, 1)
			assert.Equal(t, standby.Port(), c.count("select inet_server_port()"))
			load.requireKept(t, c.DB)
		})
	}
}

func TestAPoolThatPrefersTheStandbyLivesThroughItsPromotionAndItsEnd(t *testing.T) {
	t.Parallel()
	primary, standby := twoServers(t, nil)
	c := newClient(t, hostsDSN("prefer-standby", primary, standby))
	fill(t, c.DB, 4)
	require.Equal(t, standby.Port(), c.count("select inet_server_port()"))
	_, err := c.Exec("insert into writes values (1)")
	require.Equal(t, "25006", sqlState(err))
	assert.Zero(t, c.status().Closed["invalid"], "a standby takes no writes, which is no demotion")

	load := startCrowd(t, 4, func(int) error {
		var n int
		return c.QueryRow("select count(*) from writes").Scan(&n)
	})
	require.NoError(t, primary.Shutdown(t.Context(), pgtest.Fast))
	load.advance(t, 20)
	require.NoError(t, standby.Promote(t.Context()))
	load.advance(t, 20)
	assert.Empty(t, load.failures(), "nobody was connected to the primary")
	c.do("insert into writes values (2)")

	require.NoError(t, primary.Resume(t.Context())) // two primaries: it doesn't know better
	require.NoError(t, standby.Shutdown(t.Context(), pgtest.Fast))
	load.advance(t, 20)
	load.finish()
	load.requireAtMost(t, 1)
	assert.Equal(t, primary.Port(), c.count("select inet_server_port()"), "the other one serves as well")
}

// demote makes a running server refuse writes without ending a session, as managed services do it.
func demote(t *testing.T, s *pgtest.Server) {
	t.Helper()
	require.NoError(t, s.Exec(t.Context(), "alter system set default_transaction_read_only = on"))
	require.NoError(t, s.Exec(t.Context(), "select pg_reload_conf()"))
}

func TestADemotedServerLeavesThePoolWithItsWholeGeneration(t *testing.T) {
	t.Parallel()
	primary, standby := twoServers(t, nil)
	c := newClient(t, hostsDSN("read-write", primary, standby))
	const idle = 5
	fill(t, c.DB, idle)
	require.NoError(t, standby.Promote(t.Context()))
	demote(t, primary)

	pgtest.Eventually(t, patience, func() bool { // until the backends have read the settings
		c.do("insert into writes values (1) on conflict do nothing")
		return c.count("select inet_server_port()") == standby.Port()
	})
	for i := range 3 * idle {
		c.do("insert into writes values ($1)", 2+i)
		require.Equal(t, standby.Port(), c.count("select inet_server_port()"))
	}
	pgtest.Eventually(t, patience, func() bool { return c.status().Closed["invalid"] == idle }, "%d are closed", idle)
	pgtest.Eventually(t, patience, func() bool {
		left, err := primary.Backends(t.Context())
		return err == nil && len(left) == 0
	}, "no connection to the demoted server is left")
}

func TestADemotionUnderLoadCostsNobodyAnError(t *testing.T) {
	t.Parallel()
	primary, standby := twoServers(t, nil)
	c := newClient(t, hostsDSN("read-write", primary, standby))
	load := startWriters(t, 8, c.DB)
	load.advance(t, 20)
	require.NoError(t, standby.Promote(t.Context()))
	demote(t, primary)
	pgtest.Eventually(t, patience, func() bool { return c.status().Closed["invalid"] > 0 })
	load.advance(t, 20)
	load.finish()
	load.requireAtMost(t, 0)
	assert.Equal(t, standby.Port(), c.count("select inet_server_port()"))
}

func TestAReadOnlyTransactionIsNoDemotion(t *testing.T) {
	t.Parallel()
	c := newClient(t, with(pgtest.NewDatabase(t), "target_session_attrs", "read-write", "pool_size", "3", "max_overflow", "0"))
	c.do("create table writes (id bigint primary key)")
	pids := fill(t, c.DB, 3)
	for range 2 * len(pids) {
		tx, err := c.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true})
		require.NoError(t, err)
		_, err = tx.Exec("insert into writes values (1)")
		require.Equal(t, "25006", sqlState(err))
		require.NoError(t, tx.Rollback())
		err = pgprod.InTx(t.Context(), c.DB, func(tx *sql.Tx) error {
			_, err := tx.Exec("insert into writes values (1)")
			return err
		}, pgprod.TxReadOnly())
		require.Equal(t, "25006", sqlState(err))
		tx, err = c.Begin()
		require.NoError(t, err)
		_, err = tx.Exec("set transaction read only")
		require.NoError(t, err)
		_, err = tx.Exec("insert into writes values (1)")
		require.Equal(t, "25006", sqlState(err))
		require.NoError(t, tx.Rollback())
	}
	assert.Empty(t, c.status().Closed)
	assert.ElementsMatch(t, pids, fill(t, c.DB, 3), "the same connections")

	// Once the transaction is over the connection's writes count again.
	c.do("insert into writes values (1)")
}

func TestAHostThatIsDownDelaysNobodyWhileAnotherIsUp(t *testing.T) {
	t.Parallel()
	primary, standby := twoServers(t, nil)
	require.NoError(t, standby.Shutdown(t.Context(), pgtest.Fast))
	c := newClient(t, hostsDSN("read-write", standby, primary))
	fill(t, c.DB, 4)
	c.do("insert into writes values (1)")
	assert.Zero(t, c.status().FailedConnects)
}

// TestTheSecondHostsConnectionsAreWhole is about what a dial leaves on a connection: pgx tries one host, or one kind of
// encryption, after the other, with the same hooks of ours.
func TestTheSecondHostsConnectionsAreWhole(t *testing.T) {
	t.Parallel()
	primary, standby := twoServers(t, nil)
	encrypted := pgtest.StartTB(t, pgtest.Config{TLS: &pgtest.TLS{}, HBA: []string{"hostnossl all all 127.0.0.1/32 trust"}})
	plain := pgtest.StartTB(t, pgtest.Config{TLS: &pgtest.TLS{}, HBA: []string{"hostssl all all 127.0.0.1/32 trust"}})
	for name, dsn := range map[string]string{
		"a standby that was preferred":      hostsDSN("prefer-standby", primary, standby),
		"a primary that takes writes":       hostsDSN("read-write", standby, primary),
		"without the encryption it refuses": with(encrypted.DSN(""), "sslmode", "prefer"),
		"with the encryption it asks for":   with(plain.DSN(""), "sslmode", "allow"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, dsn)
			_, err := c.Exec("select pg_sleep(1)") // twice the time that a cancel request gets
			require.NoError(t, err)

			// And cancelling works on them.
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err = c.ExecContext(ctx, "select pg_sleep(60)")
			require.ErrorIs(t, err, context.DeadlineExceeded)
			c.count("select 1")
		})
	}
}

func TestEachDialResolvesTheNameAnew(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	const name = "moving.pgtest.example"
	dns.point(name, net.IPv4(127, 0, 0, 2)) // where nothing listens
	c := newClient(t, fmt.Sprintf("postgres://postgres@%s:%d/postgres?sslmode=disable", name, server.Port()))
	for range 2 {
		result := make(chan error, 1)
		go func() { result <- c.Ping() }() // ends once the name leads to the server
		pgtest.Eventually(t, patience, func() bool { return c.status().FailedConnects >= 2 })
		dns.point(name, server4)
		require.NoError(t, <-result)
		before := dns.asked(name)
		assert.Greater(t, before, 2, "once for each attempt at least")

		dns.point(name, net.IPv4(127, 0, 0, 2))
		require.NoError(t, server.TerminateAll(t.Context()))
		pgtest.Eventually(t, patience, func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			return c.PingContext(ctx) != nil
		})
	}
}

var server4 = net.IPv4(127, 0, 0, 1)

// dns answers this process's questions for names. The resolver asks /etc/hosts first, so localhost is not concerned.
var dns = &nameServer{addresses: map[string]net.IP{}, questions: map[string]int{}}

func init() {
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: dns.dial}
}

type nameServer struct {
	mu        sync.Mutex // guards all
	addresses map[string]net.IP
	questions map[string]int
}

func (n *nameServer) point(name string, to net.IP) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addresses[name] = to
}

func (n *nameServer) asked(name string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.questions[name]
}

// dial connects to the name server without a network: DNS over a stream, each message after its length.
func (n *nameServer) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	go func() { // ends when the resolver closes its side
		defer func() { _ = server.Close() }()
		for {
			var size uint16
			if binary.Read(server, binary.BigEndian, &size) != nil {
				return
			}
			question := make([]byte, size)
			if _, err := io.ReadFull(server, question); err != nil {
				return
			}
			answer := n.answer(question)
			if _, err := server.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
				return
			}
		}
	}()
	return client, nil
}

// answer gives the IPv4 address, and for any other type of record nothing.
func (n *nameServer) answer(question []byte) []byte {
	const header, typeA = 12, 1
	name, end := "", header
	for question[end] != 0 {
		length := int(question[end])
		name += string(question[end+1:end+1+length]) + "."
		end += 1 + length
	}
	end++
	kind := binary.BigEndian.Uint16(question[end:])
	end += 4 // type and class
	name = name[:len(name)-1]
	n.mu.Lock()
	defer n.mu.Unlock()
	ip, known := n.addresses[name]
	flags, answers := uint16(0x8180), uint16(0) // a response, recursion desired and available
	if !known {
		flags |= 3 // no such name
	} else if kind == typeA {
		n.questions[name]++
		answers = 1
	}
	reply := append([]byte{}, question[:2]...)
	for _, v := range []uint16{flags, 1, answers, 0, 0} {
		reply = binary.BigEndian.AppendUint16(reply, v)
	}
	reply = append(reply, question[header:end]...)
	if answers > 0 {
		for _, v := range []uint16{0xC00C, typeA, 1, 0, 0, net.IPv4len} { // the name above, A, IN, no time to live
			reply = binary.BigEndian.AppendUint16(reply, v)
		}
		reply = append(reply, ip.To4()...)
	}
	return reply
}
