package pgprod

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/intx"
	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/pool"
)

// ErrPoolTimeout is the error of a statement that got no connection within pool_timeout; test for it with errors.Is. The
// text says how large the pool is, how many connections are in use, how many callers wait, how long this one waited, and why
// the last attempt to connect failed, if it did.
var ErrPoolTimeout error = pool.ErrTimeout

// ErrCommitUnknown is the error of a Commit whose reply was lost, didn't come within command_timeout, or was the end of the
// session, so that the transaction may have been committed or not; test for it with errors.Is. Any other error of Commit
// means that the transaction was not committed.
//
// It is also the error of a Commit, or of a statement outside a transaction, that the server has committed without the
// confirmation of a synchronous standby: it is committed there, but a failover may undo it. The text says which of these it
// is.
var ErrCommitUnknown error = pool.ErrCommitUnknown

// PoolStatus is a snapshot of a pool, and safe to keep. Counts are since the pool was opened.
type PoolStatus struct {
	PoolName        string           `json:"pool_name"`
	PoolSize        int              `json:"pool_size"`
	MaxOverflow     int              `json:"max_overflow"`     // -1: unlimited
	CheckedOut      int              `json:"checked_out"`      // connections in use
	CheckedIn       int              `json:"checked_in"`       // idle connections
	Overflow        int              `json:"overflow"`         // connections beyond pool_size that exist
	Waiting         int              `json:"waiting"`          // callers that wait for a connection
	Connecting      int              `json:"connecting"`       // connections being made
	Utilisation     float64          `json:"utilisation"`      // checked out ÷ (pool_size + max_overflow); ÷ pool_size where that is unlimited
	PeakCheckedOut  int              `json:"peak_checked_out"` // the most that were ever in use at once
	PeakUtilisation float64          `json:"peak_utilisation"` // PeakCheckedOut, as Utilisation
	Waits           int64            `json:"waits"`            // how often a caller had to wait
	WaitTime        time.Duration    `json:"wait_time_ns"`     // the sum of all waits
	Timeouts        int64            `json:"timeouts"`         // waits that ended with ErrPoolTimeout
	FailedConnects  int64            `json:"failed_connects"`  // attempts to connect that failed
	CommitsUnknown  int64            `json:"commits_unknown"`  // transactions and statements that ended with ErrCommitUnknown
	Closed          map[string]int64 `json:"closed"`           // connections closed, by reason: lifetime, credentials, moved, idle, overflow, invalid, dirty, closed
	Hosts           []HostStatus     `json:"hosts"`            // in the DSN's order
}

// HostStatus is what a pool knows of one host of its DSN. The state is up or down as the last attempt to log in there, the
// pool's connections and, if there are several hosts, a look at each of them now and then have found it; or unknown while nobody
// has tried, and for a moment after its connections were lost. The role is primary, standby, read-only (a primary whose
// transactions are read-only by default) or deposed: it says that it is the primary, but another host was promoted in its place.
// There are no secrets in it.
type HostStatus struct {
	Host        string        `json:"host"`                 // host:port as configured; for a socket its directory and the port
	Role        string        `json:"role,omitempty"`       // as it last said, or deposed; "": not known
	State       string        `json:"state"`                // up, down or unknown
	Since       time.Time     `json:"since,omitzero"`       // since when it has been in this state; zero: it was never tried
	Latency     time.Duration `json:"latency_ns,omitempty"` // of its last answer; 0: not known
	Connections int           `json:"connections"`          // the pool's connections to it, idle ones included
	Error       string        `json:"error,omitempty"`      // why it is down
}

// Status returns a snapshot of the pool behind db. It costs a few locks and no round trip. It is an error if db was not opened
// by pgprod, or if another driver wraps pgprod's, so that the pool can't be found. It is safe for concurrent use.
func Status(db *sql.DB) (PoolStatus, error) {
	p, err := poolOf(db)
	if err != nil {
		return PoolStatus{}, err
	}
	return poolStatus(p.Status()), nil
}

// poolStatus returns a pool's numbers as the exported types.
func poolStatus(s activity.Status) PoolStatus {
	is := PoolStatus{
		PoolName: s.PoolName, PoolSize: s.PoolSize, MaxOverflow: s.MaxOverflow,
		CheckedOut: s.CheckedOut, CheckedIn: s.CheckedIn, Overflow: s.Overflow, Waiting: s.Waiting, Connecting: s.Connecting,
		Utilisation: s.Utilisation, PeakCheckedOut: s.PeakCheckedOut, PeakUtilisation: s.PeakUtilisation,
		Waits: s.Waits, WaitTime: s.WaitTime, Timeouts: s.Timeouts,
		FailedConnects: s.FailedConnects, CommitsUnknown: s.CommitsUnknown, Closed: s.Closed,
	}
	for _, h := range s.Hosts {
		is.Hosts = append(is.Hosts, HostStatus(h))
	}
	return is
}

// Recycle replaces all connections of the pool behind db: those that are idle at once, and each that is in use when it is given
// back, so that no statement fails. As after an outage, new ones are made as callers need them, a few at first and more as
// they succeed; those of pool_min are made ahead. It is for what only a new connection gets: a changed ALTER ROLE … SET, another
// address behind a name, other types for [WithAfterConnect].
//
// Recycle doesn't wait for that. [PoolStatus] counts the connections closed as lifetime. It is an error if db is not
// pgprod's, as for [Status]; on a pool that is closed it does nothing. It is safe for concurrent use.
func Recycle(db *sql.DB) error {
	p, err := poolOf(db)
	if err != nil {
		return err
	}
	p.Recycle()
	return nil
}

// Raw calls fn with the *pgx.Conn of a connection of db, for what database/sql can't express: CopyFrom, batches, LISTEN. It
// waits for a connection as a statement does. fn has the connection to itself until it returns, and must not keep it.
//
// If fn leaves a transaction open, a subscription, or a statement that it prepared under a name of its own, the connection
// is closed afterwards. Types that fn registers in the TypeMap stay with the connection, whoever borrows it next. What fn
// does by the connection's PgConn isn't limited by command_timeout, and what it leaves behind isn't noticed.
//
// The error is fn's, or says why there was no connection, or that db isn't pgprod's. Inside fn errors are pgx's own: a
// statement that a deadline or command_timeout has ended has only the server's error (57014). If fn returns that error,
// Raw's error is also the context's, as for any statement. Raw is safe for concurrent use.
func Raw(ctx context.Context, db *sql.DB, fn func(*pgx.Conn) error) error {
	if _, err := poolOf(db); err != nil {
		return err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(dc any) error {
		raw, ok := dc.(interface {
			Raw(context.Context, func(*pgx.Conn) error) error
		})
		if !ok {
			return fmt.Errorf("pgprod: the connection belongs to %T, which wraps pgprod's", dc)
		}
		return raw.Raw(ctx, fn)
	})
}

// ContextWithSettings returns a context whose statements run with these run-time parameters of the server, by name: each of
// them sees current_setting(name), and no other statement does. Row-level security can rely on it.
//
// The settings travel in front of the statement, in the same round trip, also behind a pooler in transaction mode. Outside of
// a transaction they end with the statement. In a transaction they hold from statement to statement, as the context of each
// says, and end with it; those of the context that it was begun with hold for all its statements. A setting that the context
// of a later statement in a transaction doesn't have goes back to what server_settings say, or to its default. Settings are
// added to those that ctx brings; of two values for a name the later counts.
//
// A statement fails before anything is sent if a name doesn't consist of letters, digits, _ and dots, or if it can't have
// settings: outside of a transaction several statements in one text, default_query_exec_mode=simple_protocol, CALL, DO, and
// what must not run in a transaction (VACUUM, CREATE INDEX CONCURRENTLY); and [Raw]. If the server refuses a setting, the
// statement has not run, and the error says so without the value. If settings is empty the result is ctx. It is safe for
// concurrent use.
func ContextWithSettings(ctx context.Context, settings map[string]string) context.Context {
	return link.WithSettings(ctx, settings)
}

// ContextWithCommandTimeout returns a context whose statements have this limit, rows included, in place of the pool's
// command_timeout, whether it is longer or shorter; 0 is none. The deadline of the context counts as well: whichever comes
// first ends the statement, and the error says which. If ctx brings such a limit already, the new one counts.
//
// In a transaction each statement has the limit of its own context, and COMMIT and ROLLBACK that of the context of BeginTx. The
// server's statement_timeout, which is a second above command_timeout, is raised for a longer limit: in front of the statement,
// in the same round trip, until its end; where that isn't possible, as in [Raw], in a round trip of its own, until the next
// statement on the connection. A negative d is an error of the statement, and nothing is sent. It is safe for concurrent use.
func ContextWithCommandTimeout(ctx context.Context, d time.Duration) context.Context {
	return link.WithCommandTimeout(ctx, d)
}

// ContextRepeatable returns a context whose statements may run twice without harm, as the caller says: reads, and writes that
// come to the same. If the connection is lost after such a statement was sent, so that it isn't known whether it ran, it is
// sent again on another connection, ten times at most and within pool_timeout and the context, and the caller gets no
// error. It makes no difference in a transaction, once rows were handed out, and where command_timeout or the context has
// ended the statement. It is safe for concurrent use.
func ContextRepeatable(ctx context.Context) context.Context { return link.WithRepeatable(ctx) }

// ContextCounting returns a context under which statements are counted, and their count, so that a test can hold a budget:
// that a handler doesn't ask for each row's relatives one by one. It works through whatever runs statements with the
// context, such as GORM and sqlx, and for several pools at once. If ctx counts already, both count.
//
// A statement counts when it begins, once however often it is tried, whether it succeeds or not. In a transaction that was
// begun under the context each statement counts, also one that has no context of its own; if [InTx] begins again, they
// count again. A batch and a COPY of pgx's count as one each. What doesn't count: BEGIN, COMMIT and ROLLBACK, since whether
// they are sent depends on settings; what prepares a statement, since that depends on the connection; pings; statements
// that got no connection. It is safe for concurrent use.
func ContextCounting(ctx context.Context) (context.Context, *StatementCount) {
	ctx, count := link.WithCount(ctx)
	return ctx, &StatementCount{count}
}

// A StatementCount is how many statements have run so far under the context that [ContextCounting] has returned with it. It
// is safe for concurrent use.
type StatementCount struct{ count *link.Count }

var _ fmt.Stringer = (*StatementCount)(nil)

// Total returns how many statements there were.
func (c *StatementCount) Total() (n int) {
	for _, times := range c.count.BySummary() {
		n += times
	}
	return n
}

// BySummary returns how many statements there were, by their summary, which is the db.query.summary of spans and metrics,
// such as "SELECT orders": the statement's verb and tables as they are written. The map is the caller's.
func (c *StatementCount) BySummary() map[string]int { return c.count.BySummary() }

// Reset begins to count at 0 again. It doesn't concern the count of a context that this one's was made from.
func (c *StatementCount) Reset() { c.count.Reset() }

// String returns the count for the message of a test, the most frequent first: "3 statements: 2 × SELECT items, 1 × SELECT
// orders".
func (c *StatementCount) String() string {
	by, total := c.count.BySummary(), 0
	parts := make([]string, 0, len(by))
	for _, summary := range slices.SortedFunc(maps.Keys(by), func(a, b string) int {
		return cmp.Or(cmp.Compare(by[b], by[a]), cmp.Compare(a, b))
	}) {
		total += by[summary]
		parts = append(parts, fmt.Sprintf("%d × %s", by[summary], summary))
	}
	switch list := strings.Join(parts, ", "); total {
	case 0:
		return "no statements"
	case 1:
		return "1 statement: " + list
	default:
		return fmt.Sprintf("%d statements: %s", total, list)
	}
}

// A TxOption changes how InTx runs its transaction: [TxIsolation], [TxReadOnly], [TxRetries], [TxOnce].
type TxOption func(*txConfig)

// txConfig is what the options of a transaction say. TxOption has a type of the root package, which pkg.go.dev shows.
type txConfig intx.Config

// TxIsolation sets the isolation level. Default: the server's, which is Read Committed unless default_transaction_isolation
// says otherwise. A level that PostgreSQL doesn't have (Write Committed, Linearizable) is an error.
func TxIsolation(level sql.IsolationLevel) TxOption {
	return func(c *txConfig) { c.Isolation = level }
}

// TxReadOnly makes the transaction read-only. Default: the server's, which is read-write unless
// default_transaction_read_only says otherwise.
func TxReadOnly() TxOption {
	return func(c *txConfig) { c.ReadOnly = true }
}

// TxRetries sets how often a transaction is repeated, at most, after it was rolled back for one of the reasons that [InTx]
// names. Default: 5; 0 means never.
func TxRetries(n int) TxOption {
	return func(c *txConfig) { c.Retries = n }
}

// ErrAlreadyDone is the error of [InTx] with [TxOnce] if a transaction with the same key was committed before, by this
// process or another; test for it with errors.Is. Then this call has done nothing.
var ErrAlreadyDone error = link.ErrAlreadyDone

// TxOnce has the transaction committed exactly once for this key: the key is inserted into a table (once_table, by default
// pgprod_once) and committed with the transaction. So InTx knows what became of a COMMIT whose reply was lost: it begins again
// with the same key, as long as pool_timeout allows, and returns nil if that shows that the transaction is committed; otherwise
// it runs fn again.
//
// If a transaction with this key was committed before, the error is [ErrAlreadyDone], and nothing is done: the first statement
// of fn fails with it. If another one with this key is under way, the first statement waits for it, for command_timeout at
// most. If fn fails, the key isn't kept, and may be used again. The key travels with the first statement, in the same round
// trip; so that statement can't be SET TRANSACTION.
//
// A key has 1 to 1000 bytes of UTF-8, without NUL. It is in no error, log, span or metric; the server's own log may have it.
// The table has to be made once, and [ForgetOnce] deletes old keys. In a read-only transaction TxOnce is an error.
func TxOnce(key string) TxOption {
	return func(c *txConfig) { c.Keyed, c.Key = true, key }
}

// ForgetOnce deletes the keys of [TxOnce] that are older than that, and returns how many there were. A key that is forgotten
// may be committed again, so olderThan has to be longer than anybody may take to try again. It must not be negative. The
// keys are deleted in portions, each by itself; if one fails, those before it stay deleted, and the number counts them. It is
// safe for concurrent use.
func ForgetOnce(ctx context.Context, db *sql.DB, olderThan time.Duration) (int64, error) {
	if ctx == nil {
		return 0, errors.New("pgprod: ForgetOnce needs a context, got nil")
	}
	p, err := poolOf(db)
	if err != nil {
		return 0, err
	}
	if olderThan < 0 {
		return 0, fmt.Errorf("pgprod: ForgetOnce: olderThan must be 0 or more, is %v", olderThan)
	}
	return p.ForgetOnce(ctx, db, olderThan)
}

// InTx begins a transaction, calls fn with it, and commits it if fn returns nil. If fn returns an error InTx rolls back and
// returns the error; if fn panics it rolls back and panics.
//
// InTx begins a new transaction and calls fn again, after a growing pause with jitter, if the last one was rolled back for
// certain and may succeed next time: the server ended it in favour of another (SQLSTATE 40001 or 40P01, from a statement of
// fn or from the COMMIT; Aurora DSQL's OC000 and OC001), the server refused a statement that was prepared before somebody
// changed the schema, the connection was lost before COMMIT was sent, or the server said that it ended the session in place of
// the COMMIT. After a conflict the pauses grow from 5 ms to 500 ms, else from 50 ms to 5 s. InTx never repeats after
// ErrCommitUnknown, unless [TxOnce] tells what became of the COMMIT.
//
// So fn must not do anything outside of the transaction that must not be done twice, and must return the errors of its
// statements, wrapped or not. If fn itself commits or rolls back, InTx returns an error.
//
// Inside fn don't call InTx for the same database, but pass tx on: another InTx would wait for a second connection while fn
// holds the first, and it would commit even if the outer transaction is rolled back.
//
// When ctx ends, the transaction is rolled back. ctx must not be nil, and covers pauses and repetitions as well. InTx is
// safe for concurrent use.
func InTx(ctx context.Context, db *sql.DB, fn func(*sql.Tx) error, opts ...TxOption) error {
	if ctx == nil {
		return errors.New("pgprod: InTx needs a context, got nil")
	}
	p, err := poolOf(db)
	if err != nil {
		return err
	}
	cfg := txConfig{Retries: 5}
	for _, opt := range opts {
		if opt != nil {
			opt(&cfg)
		}
	}
	if cfg.Keyed {
		switch {
		case cfg.Key == "" || len(cfg.Key) > 1000 || !utf8.ValidString(cfg.Key) || strings.ContainsRune(cfg.Key, 0):
			return errors.New("pgprod: TxOnce: the key must have 1 to 1000 bytes of UTF-8, without NUL")
		case cfg.ReadOnly:
			return errors.New("pgprod: TxOnce: a read-only transaction can't keep its key")
		}
	}
	return p.InTx(ctx, db, fn, intx.Config(cfg))
}

// poolOf returns the pool behind db.
func poolOf(db *sql.DB) (*pool.Pool, error) {
	d, ok := db.Driver().(poolDriver)
	if !ok {
		return nil, fmt.Errorf("pgprod: this *sql.DB belongs to driver %T, not to pgprod (or pgprod is wrapped by it)", db.Driver())
	}
	return d.pool, nil
}
