package faulttest

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

var leaseCount = flag.Int("leases", 8, "how many leases of a second TestLeasesOfVaultEndUnderLoad outlives; 60 are an hour's worth of minutes")

// A vault is an emulation of the part of HashiCorp's Vault that makes database users: a lease is a role of its own, which is
// dropped, and whose sessions are ended, when the lease is over.
type vault struct {
	*httptest.Server
	t      *testing.T
	server *pgtest.Server
	lease  time.Duration

	asking  atomic.Int64 // questions under way
	crowded atomic.Bool  // there was more than one at a time
	refused atomic.Int64 // questions that came while it was down
	ended   atomic.Int64 // sessions that the end of their lease has ended
	wg      sync.WaitGroup
	ctx     context.Context // ends with the test

	mu     sync.Mutex // guards what follows
	issued int
	up     time.Time // until then it is down
}

// startVault starts a vault whose roles may do what the role app may.
func startVault(t *testing.T, server *pgtest.Server, lease time.Duration) *vault {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	v := &vault{t: t, server: server, lease: lease, ctx: ctx}
	v.Server = httptest.NewServer(http.HandlerFunc(v.serve))
	t.Cleanup(func() { v.Close(); cancel(); v.wg.Wait() })
	return v
}

// serve answers GET /v1/database/creds/app.
func (v *vault) serve(w http.ResponseWriter, r *http.Request) {
	if v.asking.Add(1) > 1 {
		v.crowded.Store(true)
	}
	defer v.asking.Add(-1)
	name, ok := v.next()
	if !ok {
		v.refused.Add(1)
		http.Error(w, `{"errors":["Vault is sealed"]}`, http.StatusServiceUnavailable)
		return
	}
	password := "pw-" + name
	if err := v.server.Exec(r.Context(), fmt.Sprintf(
		`create role %q login password '%s' in role app valid until '%s'`, name, password, time.Now().Add(v.lease).Format(time.RFC3339Nano))); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	v.wg.Add(1)
	end := time.AfterFunc(v.lease, func() { v.revoke(name) }) // the end of the test stops it, or waits for it
	context.AfterFunc(v.ctx, func() {
		if end.Stop() {
			v.wg.Done()
		}
	})
	_ = json.NewEncoder(w).Encode(map[string]any{
		"lease_id": "database/creds/app/" + name, "lease_duration": v.lease.Seconds(),
		"data": map[string]string{"username": name, "password": password},
	})
}

// next returns the name of the next role, unless the vault is down. It is down for most of each fourth lease, and for each
// eighth till after its end.
func (v *vault) next() (name string, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	if now.Before(v.up) {
		return "", false
	}
	v.issued++
	switch {
	case v.issued%8 == 0:
		v.up = now.Add(v.lease * 12 / 10)
	case v.issued%4 == 0:
		v.up = now.Add(v.lease * 85 / 100)
	}
	return fmt.Sprintf("v-app-%d", v.issued), true
}

// leases returns how many leases were issued.
func (v *vault) leases() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.issued
}

// revoke does what Vault's revocation statements do.
func (v *vault) revoke(name string) {
	defer v.wg.Done()
	admin, err := v.server.Admin(v.ctx)
	if err != nil {
		return // the end of the test
	}
	defer admin.Close(context.Background())
	_, err = admin.Exec(v.ctx, fmt.Sprintf("alter role %q nologin", name))
	if err == nil {
		var ended int64
		err = admin.QueryRow(v.ctx, "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = $1", name).Scan(&ended)
		v.ended.Add(ended)
	}
	if err == nil {
		_, err = admin.Exec(v.ctx, fmt.Sprintf("drop role %q", name))
	}
	if v.ctx.Err() == nil {
		assert.NoError(v.t, err)
	}
}

// credentials is the function that a program has.
func (v *vault) credentials(ctx context.Context) (pgprod.Credentials, error) {
	asked := time.Now()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, v.URL+"/v1/database/creds/app", nil)
	if err != nil {
		return pgprod.Credentials{}, err
	}
	response, err := v.Client().Do(request)
	if err != nil {
		return pgprod.Credentials{}, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return pgprod.Credentials{}, errors.New("vault: " + response.Status)
	}
	var lease struct {
		Duration float64 `json:"lease_duration"`
		Data     struct{ Username, Password string }
	}
	err = json.NewDecoder(response.Body).Decode(&lease)
	return pgprod.Credentials{
		User: lease.Data.Username, Password: lease.Data.Password,
		Expires: asked.Add(time.Duration(lease.Duration * float64(time.Second))),
	}, err
}

// vaultDatabase makes a server with a role app, a table that it may use, and nothing that a login needs no password for.
func vaultDatabase(t *testing.T) (*pgtest.Server, string) {
	t.Helper()
	server := pgtest.StartTB(t, pgtest.Config{Password: "of postgres"})
	for _, text := range []string{
		"create role app", "create table work (id bigserial, worker int, by_user text default session_user)",
		"grant select, insert on work to app", "grant usage on sequence work_id_seq to app",
	} {
		require.NoError(t, server.Exec(t.Context(), text))
	}
	return server, withoutPassword(t, server)
}

// TestLeasesOfVaultEndUnderLoad: sixteen workers read, insert, and do both in transactions, while their roles come and go.
func TestLeasesOfVaultEndUnderLoad(t *testing.T) {
	t.Parallel()
	server, dsn := vaultDatabase(t)
	v := startVault(t, server, time.Second)
	var logged logLines
	c := newClient(t, dsn, pgprod.WithCredentials(v.credentials), pgprod.WithLogger(logged.logger()), pgprod.WithEchoPool(true))
	var inserted [workers]int64
	load := startCrowd(t, workers, func(worker int) error {
		var seen int
		if err := c.QueryRow("select count(*) from (select from work where worker = $1 limit 1) w", worker).Scan(&seen); err != nil {
			return err
		}
		if _, err := c.Exec("insert into work (worker) values ($1)", worker); err != nil {
			return err
		}
		err := pgprod.InTx(context.Background(), c.DB, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(context.Background(), "insert into work (worker) values ($1)", worker)
			return err
		})
		if err == nil {
			inserted[worker] += 2
		}
		return err
	})
	pgtest.Eventually(t, patience+time.Duration(2**leaseCount)*time.Second, func() bool { return v.leases() > *leaseCount })
	load.finish()

	assert.Empty(t, load.failures())
	assert.False(t, v.crowded.Load(), "one question at a time")
	assert.NotZero(t, v.refused.Load(), "it was down")
	assert.NotContains(t, logged.String(), "pw-v-app")
	s := c.status()
	assert.NotZero(t, s.Closed["credentials"])
	admin, err := server.Admin(t.Context())
	require.NoError(t, err)
	defer admin.Close(context.Background())
	requireRows(t, admin, &inserted)
	t.Logf("%d leases, %d questions refused, %d rounds, %d failed dials, %d sessions ended by the end of their lease, closed: %v",
		v.leases(), v.refused.Load(), load.rounds(), s.FailedConnects, v.ended.Load(), s.Closed)
}

// requireRows checks that each worker's inserts are there, once.
func requireRows(t *testing.T, admin *pgx.Conn, inserted *[workers]int64) {
	t.Helper()
	for worker, want := range inserted {
		var got int64
		require.NoError(t, admin.QueryRow(t.Context(), "select count(*) from work where worker = $1", worker).Scan(&got))
		assert.Equal(t, want, got, "worker %d", worker)
	}
}
