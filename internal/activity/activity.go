// Package activity remembers what a pool did lately, in bounded memory, for people to look at: statements by summary,
// utilisation over the last minutes, errors and events. It knows nothing of connections.
//
//	activity.go    what is shown: one snapshot of one pool
//	statements.go  durations, rows and errors of statements by summary
//	recent.go      the last few of anything; events, of which those that are alike are one
package activity

import "time"

// A Snapshot is what is known of one pool at one moment. It is safe to keep, and holds no secrets, no parameter values
// and no literals of statements.
type Snapshot struct {
	At         time.Time   `json:"at"`
	Status     Status      `json:"status"`
	History    []Sample    `json:"history"`    // the oldest first, one every Interval
	Holders    []Holder    `json:"holders"`    // who has a connection, the longest first
	Statements []Statement `json:"statements"` // by time spent in all, the most first
	Errors     []Event     `json:"errors"`     // the newest first
	Events     []Event     `json:"events"`     // of connections, the newest first
	Settings   []Setting   `json:"settings"`
	Warnings   []string    `json:"warnings"` // what the preflight found
}

// Status is a pool's numbers. The root package exports and documents it as PoolStatus.
type Status struct {
	PoolName        string           `json:"pool_name"`
	PoolSize        int              `json:"pool_size"`
	MaxOverflow     int              `json:"max_overflow"`
	CheckedOut      int              `json:"checked_out"`
	CheckedIn       int              `json:"checked_in"`
	Overflow        int              `json:"overflow"`
	Waiting         int              `json:"waiting"`
	Connecting      int              `json:"connecting"`
	Utilisation     float64          `json:"utilisation"`
	PeakCheckedOut  int              `json:"peak_checked_out"`
	PeakUtilisation float64          `json:"peak_utilisation"`
	Waits           int64            `json:"waits"`
	WaitTime        time.Duration    `json:"wait_time_ns"`
	Timeouts        int64            `json:"timeouts"`
	FailedConnects  int64            `json:"failed_connects"`
	Closed          map[string]int64 `json:"closed"`
}

// Health is how the server and the pool are, as a check found them. The root package exports and documents it as Health,
// with JSON of its own; the tags here are those of the live page, which shows the rest elsewhere.
type Health struct {
	Status        string        `json:"status"`   // Healthy, Degraded, Unhealthy, or "" if nobody knows
	Database      string        `json:"database"` // Connected, Disconnected
	Reason        string        `json:"reason,omitempty"`
	CheckedAt     time.Time     `json:"-"`
	Latency       time.Duration `json:"latency_ns"`     // of one round trip; 0: not known
	ServerVersion string        `json:"server_version"` // "" if the server didn't answer
	InRecovery    bool          `json:"recovery"`       // the server is a standby
	Pool          Status        `json:"-"`
	Warnings      []string      `json:"-"`
}

// The words of Health.
const (
	Healthy      = "healthy"
	Degraded     = "degraded"
	Unhealthy    = "unhealthy"
	Connected    = "connected"
	Disconnected = "disconnected"
)

// Interval is how often a pool that is watched is sampled, and Samples how many of those are kept: five minutes.
const (
	Interval = 2 * time.Second
	Samples  = 150
)

// A Sample is how full the pool was at one moment.
type Sample struct {
	At         time.Time `json:"at"`
	CheckedOut int       `json:"checked_out"`
	CheckedIn  int       `json:"checked_in"`
	Waiting    int       `json:"waiting"`
	Timeouts   int64     `json:"timeouts"` // since the pool was opened
}

// A Holder is a caller that has a connection.
type Holder struct {
	Held      time.Duration `json:"held_ns"`
	Leak      bool          `json:"leak"` // held longer than leak_detection
	Running   bool          `json:"running"`
	RowsOpen  bool          `json:"rows_open"`       // command_timeout has ended the statement, and its rows were not closed
	Statement string        `json:"statement"`       // the summary of the last, or the one that runs
	PID       uint32        `json:"pid"`             // of the server's process
	Stack     []string      `json:"stack,omitempty"` // of the borrower, "function file:line", the innermost first
}

// A Statement is what is known of the statements of one summary, of the last five to ten minutes.
type Statement struct {
	Summary string        `json:"summary"`
	Count   int64         `json:"count"`
	Errors  int64         `json:"errors"`
	Rows    int64         `json:"rows"`
	Total   time.Duration `json:"total_ns"`
	P50     time.Duration `json:"p50_ns"`
	P95     time.Duration `json:"p95_ns"`
	P99     time.Duration `json:"p99_ns"`
	Max     time.Duration `json:"max_ns"`
}

// An Event is something that happened, once or again and again.
type Event struct {
	At      time.Time `json:"at"`    // the last time
	First   time.Time `json:"first"` // the first time
	Kind    string    `json:"kind"`
	Text    string    `json:"text"` // of the last time
	Count   int       `json:"count"`
	Warning bool      `json:"warning"` // it is what an application has to expect
}

// A Setting is a setting in force, and where it came from: default, profile, environment, DSN or option.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Source string `json:"source"`
}
