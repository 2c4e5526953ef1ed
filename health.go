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

// Health is the state of the database and the pool at one moment, as [Check] found it. It is safe to keep.
type Health struct {
	Status        string        `json:"status"`                   // healthy, degraded or unhealthy
	Database      string        `json:"database"`                 // connected or disconnected
	Reason        string        `json:"reason,omitempty"`         // why it isn't healthy, in words; "" if it is
	CheckedAt     time.Time     `json:"checked_at"`               // when the server was asked
	Latency       time.Duration `json:"latency_ns"`               // of one round trip to the server; 0 if it didn't answer
	ServerVersion string        `json:"server_version,omitempty"` // "" if the server didn't answer
	InRecovery    bool          `json:"in_recovery"`              // the server is a standby
	Pool          PoolStatus    `json:"pool"`
	Warnings      []string      `json:"warnings,omitempty"` // about the settings, and from the preflight
}

// Check asks the server behind db a question, and returns the state of the server and the pool:
//
//   - healthy: the server answers, and the pool has connections for callers.
//   - degraded: the pool is exhausted, a caller has waited for more than a second, the server is of another kind than
//     target_session_attrs demands, or it takes no connections beyond those that the pool has. Also if the server or the
//     network is slow: the check has no answer within two seconds, or could not connect, but something came from the server
//     in that time, or it has answered on one of the pool's connections within the last second. A pooler that accepts the
//     check's connection but has none to the server free for it is such a case.
//   - unhealthy: nothing comes from the server within two seconds, or it refuses the connection; or something comes, but it
//     has answered nobody for as long as a statement may take (command_timeout, at least 6 and at most 30 seconds).
//
// The check has a connection of its own, which doesn't count for pool_size. It is opened by the first Check, and closed
// after a minute without one. Connecting may take as long as any dial: it goes on when the check is over, and the next check
// uses the connection. The server is asked at most once a second; all checks within that second get the same answer.
//
// If ctx ends first the result is unhealthy, and its reason says so, unless the pool's connections have just had answers. If
// db isn't pgprod's the result is unhealthy, and says so. When checks see an outage, its beginning and its end are logged.
// There are no secrets in a result. Check is safe for concurrent use.
func Check(ctx context.Context, db *sql.DB) Health {
	h := check(ctx, db)
	return Health{
		Status: h.Status, Database: h.Database, Reason: h.Reason, CheckedAt: h.CheckedAt, Latency: h.Latency,
		ServerVersion: h.ServerVersion, InRecovery: h.InRecovery, Pool: poolStatus(h.Pool), Warnings: h.Warnings,
	}
}

// check is Check with the result as the live page needs it.
func check(ctx context.Context, db *sql.DB) activity.Health {
	p, err := poolOf(db)
	if err != nil {
		return activity.Health{
			Status: activity.Unhealthy, Database: activity.Disconnected, Reason: err.Error(), CheckedAt: time.Now(),
		}
	}
	return p.Check(ctx)
}

// HealthHandler returns a handler for probes. It answers GET and HEAD requests with Check's result as JSON: with status 200
// for healthy and degraded, and 503 for unhealthy. That is a readiness probe.
//
// A request whose path ends in /livez, /live or /liveness, be it before or after a router has removed a prefix, is a
// liveness probe. It is answered with 200, and the database isn't asked: to restart the service wouldn't repair its
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

// asksForLife reports whether a path is that of a liveness probe.
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

// DebugHandler returns a handler for a live page about the pools of dbs. It shows how full they are and were in the last
// minutes, which callers wait, which hold a connection, for how long and with which stack, statements by summary with their
// durations, recent errors and events of connections, and the settings in force with the source of each. The page loads
// nothing from elsewhere and works without JavaScript. With ?format=json the same comes as JSON.
//
// Serve it on an internal port, as net/http/pprof: there are no passwords, parameter values or literals of statements in it,
// but names of tables, hosts and functions. It may be mounted at any path.
//
// From this call on until a pool is closed, durations of statements are collected, in bounded memory; each statement then
// costs a few tenths of a microsecond more. A db that isn't pgprod's is shown as such. The handler is safe for concurrent
// use.
func DebugHandler(dbs ...*sql.DB) http.Handler {
	sources := make([]debugpage.Source, len(dbs))
	for i, db := range dbs {
		sources[i] = debugSource(db)
	}
	return debugpage.Handler(func() []debugpage.Source { return sources })
}

// debugSource is the live page's view of a db.
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

// writeJSON answers a request with v as JSON.
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
