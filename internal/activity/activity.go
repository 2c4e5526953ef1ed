// Package activity remembers, in bounded memory, what a pool did in the last minutes: statements by summary, how full the
// pool was, errors and events. The live page shows it. It knows nothing of connections.
//
//	activity.go    the data that is shown: a Snapshot of one pool, with its parts
//	cause.go       what a slow statement was found to wait for
//	tree.go        who blocks whom, as trees
//	words.go       a session of a tree in words
//	statements.go  Statements collects durations, rows and errors of statements by summary
//	recent.go      Recent keeps the last few values of any type; Events keeps events, and counts those that repeat
package activity

import (
	"strings"
	"time"
)

// A Snapshot is what is known of one pool at one moment. It is safe to keep. There are no secrets, parameter values or
// literals of statements in it.
type Snapshot struct {
	At         time.Time        `json:"at"`
	Status     Status           `json:"status"`
	BegunAgain map[string]int64 `json:"begun_again"` // transactions that InTx has begun again, by the error.type of why
	History    []Sample         `json:"history"`     // the oldest first, one every Interval while somebody watches
	Holders    []Holder         `json:"holders"`     // callers that have a connection, the one that has it longest first
	Blocking   []*Node          `json:"blocking"`    // who blocks whom: root blockers, and below them who waits for them
	Slow       []SlowStatement  `json:"slow"`        // the last that were slow, the newest first
	Saved      Saved            `json:"round_trips_saved"`
	Statements []Statement      `json:"statements"` // by total time, the most first
	Repeated   []Repetition     `json:"repeated"`   // in development: what ran many times in a row, the most times first
	Errors     []Event          `json:"errors"`     // the newest first
	Events     []Event          `json:"events"`     // of connections, the newest first
	Settings   []Setting        `json:"settings"`
	Warnings   []string         `json:"warnings"` // what the preflight found
}

// Status has a pool's numbers. The root package has the same as PoolStatus, where the fields are documented.
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
	CommitsUnknown  int64            `json:"commits_unknown"`
	Closed          map[string]int64 `json:"closed"`
	Hosts           []HostStatus     `json:"hosts"`
}

// HostStatus is what a pool knows of one of its hosts. The root package has the same struct, where the fields are documented.
type HostStatus struct {
	Host        string        `json:"host"`
	Role        string        `json:"role,omitempty"`
	State       string        `json:"state"`
	Since       time.Time     `json:"since,omitzero"`
	Latency     time.Duration `json:"latency_ns,omitempty"`
	Connections int           `json:"connections"`
	Error       string        `json:"error,omitempty"`
}

// Health is the health of the server and the pool, as a check found it. The root package has the same fields in its own
// Health, with other JSON names. The names here are for the live page's JSON, which leaves out what is in the Snapshot
// beside it.
type Health struct {
	Status        string        `json:"status"`   // Healthy, Degraded or Unhealthy; "": it isn't known
	Database      string        `json:"database"` // Connected or Disconnected
	Reason        string        `json:"reason,omitempty"`
	CheckedAt     time.Time     `json:"-"`
	Latency       time.Duration `json:"latency_ns"`     // of one round trip; 0: not known
	ServerVersion string        `json:"server_version"` // "" if the server didn't answer
	InRecovery    bool          `json:"recovery"`       // the server is a standby
	Pool          Status        `json:"-"`
	Warnings      []string      `json:"-"`
}

// The values of Health.Status and Health.Database.
const (
	Healthy      = "healthy"
	Degraded     = "degraded"
	Unhealthy    = "unhealthy"
	Connected    = "connected"
	Disconnected = "disconnected"
)

const (
	// Interval is the time between two Samples of a pool that is watched.
	Interval = 2 * time.Second
	// Samples is how many Samples are kept: those of five minutes.
	Samples = 150
)

// A Sample says how full the pool was at one moment.
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
	Leak      bool          `json:"leak"`            // it has been held longer than leak_detection
	Running   bool          `json:"running"`         // a statement is under way
	RowsOpen  bool          `json:"rows_open"`       // command_timeout has ended the statement, and its rows were not closed
	Statement string        `json:"statement"`       // the summary of the statement that runs, or of the last one
	PID       uint32        `json:"pid"`             // of the server's process
	Stack     []string      `json:"stack,omitempty"` // of the borrower, "function file:line", the innermost first

	Server  string `json:"server,omitempty"`   // the address of the server it is connected to
	TraceID string `json:"trace_id,omitempty"` // of the span of the statement under way, if that is sampled

	Runs  time.Duration `json:"runs_ns"`         // how long the statement runs that is under way; 0: none is
	Cause *Cause        `json:"cause,omitempty"` // what it was last found to wait for; nil: it isn't slow, or that isn't known
	Found string        `json:"found,omitempty"` // Cause in words
}

// A Statement says how the statements with one summary did in the last five to ten minutes. The percentiles are upper
// bounds: they may be a quarter too long.
type Statement struct {
	Summary string        `json:"summary"`
	Count   int64         `json:"count"`      // executions, failed ones included
	Errors  int64         `json:"errors"`     // executions that failed
	Rows    int64         `json:"rows"`       // rows returned or affected
	Total   time.Duration `json:"total_ns"`   // the sum of all durations
	Waited  time.Duration `json:"waited_ns"`  // the sum of the waits for a connection, which come before
	Server  time.Duration `json:"server_ns"`  // the part of Total in which the server was awaited
	Read    time.Duration `json:"reading_ns"` // the part of Total in which results were read, the callers' pauses included
	P50     time.Duration `json:"p50_ns"`
	P95     time.Duration `json:"p95_ns"`
	P99     time.Duration `json:"p99_ns"`
	Max     time.Duration `json:"max_ns"`

	Plan *Plan `json:"plan,omitempty"` // of one of them that was slow; nil: none was, or plans are off
}

// A Plan is how the server would execute a statement that was slow, whatever the values of its parameters. There are no literals
// in it. It isn't changed, so that it may be shared.
type Plan struct {
	At   time.Time     `json:"at"`      // when the server was asked
	Took time.Duration `json:"took_ns"` // how long the statement had taken
	Text string        `json:"text"`    // lines, as of EXPLAIN VERBOSE; "": there is none, see Reason
	// Reason says why there is no plan; "": there is one, or the server is about to be asked.
	Reason string `json:"reason,omitempty"`
	// QueryID is the server's identifier of the query, by which pg_stat_statements has it as queryid; 0: it computes none.
	QueryID int64 `json:"query_id,omitempty,string"`
}

// A Repetition is a statement that ran many times in a row under one parent, where one statement would do.
type Repetition struct {
	Summary string    `json:"summary"`
	Caller  string    `json:"caller"`          // the program's line that has called, "function file:line"
	Stack   []string  `json:"stack,omitempty"` // the program's frames, the innermost first, which is Caller
	Times   int       `json:"times"`           // how many times it ran in the longest row
	Found   int       `json:"found"`           // how many times that was found: how many rows of ten or more there were
	First   time.Time `json:"first"`           // when it was found first
	Last    time.Time `json:"last"`            // when it was found last
}

// Writes reports whether the statement is one that writes.
func (r Repetition) Writes() bool {
	verb, _, _ := strings.Cut(r.Summary, " ")
	switch strings.ToUpper(verb) {
	case "INSERT", "UPDATE", "DELETE", "MERGE":
		return true
	}
	return false
}

// Instead says what to do in place of the repetition.
func (r Repetition) Instead() string {
	if r.Writes() {
		return "write all at once: one statement (several VALUES, unnest, an ORM's CreateInBatches), a batch of pgx's, or COPY"
	}
	return "ask for all rows at once, before the loop: a join, id = any($1), an ORM's preloading"
}

// A SlowStatement is a statement that has taken slow_query or longer, its wait for a connection included.
type SlowStatement struct {
	At      time.Time     `json:"at"` // when it ended
	Summary string        `json:"summary"`
	Took    time.Duration `json:"took_ns"`
	Waited  time.Duration `json:"waited_ns"`            // for a connection, before
	Server  time.Duration `json:"server_ns"`            // the part of Took in which the server was awaited
	Read    time.Duration `json:"reading_ns"`           // the part of Took in which its rows were read
	Rows    int64         `json:"rows"`                 // returned or affected
	Failed  string        `json:"error_type,omitempty"` // error.type of its failure; "": it has succeeded
	TraceID string        `json:"trace_id,omitempty"`   // of its span, if that was sampled
	Cause   *Cause        `json:"cause,omitempty"`      // what it was last found to wait for; nil: that isn't known
	Found   string        `json:"found,omitempty"`      // Cause in words
}

// Saved counts round trips to the server that were saved, since the pool was opened, because something travelled in front of
// a statement instead of by itself.
type Saved struct {
	Begin        int64 `json:"begin"`         // BEGIN
	Settings     int64 `json:"settings"`      // of ContextWithSettings
	Cleaning     int64 `json:"cleaning"`      // what an earlier borrower had left in the session was undone
	Keys         int64 `json:"keys"`          // of TxOnce
	Limits       int64 `json:"limits"`        // of ContextWithCommandTimeout, for the server
	TraceContext int64 `json:"trace_context"` // the setting trace_context
}

// Total is the sum.
func (s Saved) Total() int64 {
	return s.Begin + s.Settings + s.Cleaning + s.Keys + s.Limits + s.TraceContext
}

// An Event is something that happened, once or several times.
type Event struct {
	At      time.Time `json:"at"`      // when it happened last
	First   time.Time `json:"first"`   // when it happened first
	Kind    string    `json:"kind"`    // such as connect, close, statement
	Text    string    `json:"text"`    // what happened the last time, in words
	Count   int       `json:"count"`   // how often it happened
	Warning bool      `json:"warning"` // an application has to expect it, as the violation of a unique constraint
}

// A Setting is a setting in force.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Source string `json:"source"` // default, profile, environment, DSN or option; connection: it says where the pool connects to
}
