package pgprod

import (
	"context"
	"database/sql"
	"encoding/json"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/debugpage"
)

// Health says how the database and the pool are, at one moment. It is safe to keep.
type Health struct {
	Status        string        `json:"status"`                   // healthy, degraded, unhealthy
	Database      string        `json:"database"`                 // connected, disconnected
	Reason        string        `json:"reason,omitempty"`         // in words; "" if healthy
	CheckedAt     time.Time     `json:"checked_at"`               // when the server was asked
	Latency       time.Duration `json:"latency_ns"`               // of one round trip to the server
	ServerVersion string        `json:"server_version,omitempty"` // "" if it could not be asked
	InRecovery    bool          `json:"in_recovery"`              // the server is a standby
	Pool          PoolStatus    `json:"pool"`
	Warnings      []string      `json:"warnings,omitempty"` // of the settings, and of the preflight
}

// Check says how the database behind db is, and its pool:
//
//   - healthy: the server answers, and connections are to be had.
//   - degraded: the pool is exhausted, a caller has waited for more than a second, the server is of another kind than
//     target_session_attrs asks for, or it takes no connections beyond those that the pool has. Also where the server or
//     the network is slow: the check has no answer within two seconds, or could not connect, but the server was heard in
//     that time, or has answered on one of the pool's connections within the last second. A pooler that lets the check in
//     but has no connection to the server free is such a case.
//   - unhealthy: nothing is heard of the server within two seconds, or it refuses; or it is heard but has answered nobody
//     for as long as a statement may take (command_timeout, at least 6 and at most 30 seconds).
//
// The server is asked over a connection outside of the pool's places, which is opened by the first Check and closed after
// a minute without one. Connecting may take as long as a dial may: it goes on when the check is over, and the next check
// uses the connection. The server is asked at most once a second: a storm of checks gets the same answer. When ctx ends
// first the result is unhealthy, and its reason says so, unless the pool's connections have just had answers. The
// beginning and the end of an outage that checks see are logged. Nothing in a result is secret. For a db that isn't
// pgprod's the result is unhealthy and says so. Check is safe for concurrent use.
func Check(ctx context.Context, db *sql.DB) Health {
	h := check(ctx, db)
	return Health{
		Status: h.Status, Database: h.Database, Reason: h.Reason, CheckedAt: h.CheckedAt, Latency: h.Latency,
		ServerVersion: h.ServerVersion, InRecovery: h.InRecovery, Pool: PoolStatus(h.Pool), Warnings: h.Warnings,
	}
}

// check is Check with the fields as the live page takes them.
func check(ctx context.Context, db *sql.DB) activity.Health {
	p, err := poolOf(db)
	if err != nil {
		return activity.Health{
			Status: activity.Unhealthy, Database: activity.Disconnected, Reason: err.Error(), CheckedAt: time.Now(),
		}
	}
	return p.Check(ctx)
}

// HealthHandler answers GET and HEAD requests with Check's result as JSON: status 200 for healthy and degraded, 503 for
// unhealthy. That is a readiness probe.
//
// A request whose path ends in /livez, /live or /liveness, before or after a router has cut something off it, is a
// liveness probe: it is answered without asking the database, with 200, since restarting a service doesn't mend its
// database. The handler is safe for concurrent use.
func HealthHandler(db *sql.DB) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		if asksForLife(r.URL.Path) || asksForLife(asSent(r)) {
			writeJSON(w, r, http.StatusOK, struct {
				Status string `json:"status"`
			}{"alive"})
			return
		}
		health, code := Check(r.Context(), db), http.StatusOK
		if health.Status == activity.Unhealthy {
			code = http.StatusServiceUnavailable
		}
		writeJSON(w, r, code, health)
	})
}

// asksForLife reports whether a path is a liveness probe's.
func asksForLife(p string) bool {
	switch path.Base(p) {
	case "livez", "live", "liveness":
		return true
	}
	return false
}

// asSent is the path of a request as the client sent it: http.StripPrefix and routers change r.URL.
func asSent(r *http.Request) string {
	sent, _, _ := strings.Cut(r.RequestURI, "?")
	return sent
}

// DebugHandler serves a live page about the pools of dbs, for an internal port as net/http/pprof is: how full they are and
// were in the last minutes, who waits, who holds connections for how long and with which stack, statements by summary
// with their durations, recent errors and events of connections, and the settings in force with where each came from. It
// needs nothing from elsewhere and works without JavaScript; with ?format=json it gives the same as JSON. There are no
// passwords, parameter values or literals of statements in it, but names of tables, hosts and functions: don't show it to
// the world.
//
// Durations of statements are collected from this call on, until the pool is closed, in bounded memory; each statement
// then costs a few tenths of a microsecond more. It may be mounted at any path. A db that isn't pgprod's is shown as such.
// It is safe for concurrent use.
func DebugHandler(dbs ...*sql.DB) http.Handler {
	sources := make([]debugpage.Source, len(dbs))
	for i, db := range dbs {
		sources[i] = debugSource(db)
	}
	return debugpage.Handler(func() []debugpage.Source { return sources })
}

func debugSource(db *sql.DB) debugpage.Source {
	source := debugpage.Source{Health: func(ctx context.Context) activity.Health { return check(ctx, db) }}
	p, err := poolOf(db)
	if err != nil {
		source.Name = "not pgprod's"
		return source
	}
	p.Watch()
	source.Snapshot = p.Snapshot
	return source
}

func writeJSON(w http.ResponseWriter, r *http.Request, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	if r.Method == http.MethodHead {
		return
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(v) // the client may be gone
}
