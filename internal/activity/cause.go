package activity

import (
	"cmp"
	"fmt"
	"path"
	"strings"
	"time"
)

// A Cause says what the server was doing for a statement that is slow, when it was asked about it. It is made once and not
// changed, so that it may be shared. There are no values or literals of statements in it.
type Cause struct {
	At    time.Time     `json:"at"`       // when the server was asked
	After time.Duration `json:"after_ns"` // how long the statement had run then
	State State         `json:"state"`
	Wait  Wait          `json:"wait,omitzero"` // what the session waits for; of one that is Reading or Running, none

	// ByText says that there is a pooler before the server, so that the session is known by the statement's text only: it is
	// the only one with this text and this application_name that has run for as long, within half a second.
	ByText bool `json:"by_text,omitempty"`
	// Parallel says that the wait is that of a parallel worker, for which the session waits.
	Parallel bool `json:"parallel,omitempty"`
	// QueryID is the server's own identifier of the query (compute_query_id); 0: it has none.
	QueryID int64 `json:"query_id,omitempty,string"`

	// Chain has the session that blocks the statement, then the one that blocks that one, and so on up to the root, which waits
	// for no lock. It is empty if nothing blocks the statement. In a deadlock it ends before it would come round: see Root.
	Chain []Blocker `json:"chain,omitempty"`
	// Others is how many further sessions block the statement, besides the first of Chain: they hold the lock too, or wait for it
	// and come first.
	Others int `json:"others,omitempty"`
	// Itself says that the first of Chain is a connection of this pool's own that lies idle in a transaction, and that it was
	// borrowed in the very function whose later line waits: perhaps one goroutine, which waits for itself.
	Itself bool `json:"itself,omitempty"`
}

// A State is what a slow statement's session does.
type State string

// The values of Cause.State.
const (
	Waiting State = "waiting" // it waits, see Cause.Wait
	Running State = "running" // it runs, and waits for nothing that the server has a name for
	Reading State = "reading" // the server is done: its answer is on the way, or the program is reading the rows
	Unseen  State = "unseen"  // the server is idle, and hasn't got the statement
)

// A Wait is a wait event, by the words of pg_stat_activity. The zero value is none.
type Wait struct {
	Type  string `json:"type"`
	Event string `json:"event"`
}

// String returns type and event as in "Lock/transactionid". If the event isn't known it is the type.
func (w Wait) String() string {
	if w.Event == "" {
		return w.Type
	}
	return w.Type + "/" + w.Event
}

// A Blocker is a session that blocks a statement or another session.
type Blocker struct {
	PID         uint32 `json:"pid,omitempty"`      // 0: it is a prepared transaction, which has no session
	Prepared    string `json:"prepared,omitempty"` // the name of a prepared transaction; "": it is none, or not known
	Kind        string `json:"kind,omitempty"`     // pg_stat_activity's backend_type; "": not known
	Application string `json:"application,omitempty"`
	User        string `json:"user,omitempty"`
	State       string `json:"state,omitempty"` // pg_stat_activity's state, as "idle in transaction"; "": not known

	InState       time.Duration `json:"in_state_ns,omitempty"`       // how long it has been in this state; 0: not known
	InTransaction time.Duration `json:"in_transaction_ns,omitempty"` // how long its transaction is open; 0: none is
	Wait          Wait          `json:"wait,omitzero"`               // what it waits for itself
	Hidden        bool          `json:"hidden,omitempty"`            // the role may not see more of it

	Own *Own `json:"own,omitempty"` // what this program knows of it, if it is one of this pool's own connections; nil: it isn't
}

// Own is what a pool knows of one of its connections that blocks others. It is empty if the connection has changed hands since
// the server was asked.
type Own struct {
	Held    time.Duration `json:"held_ns"`         // how long its borrower has had it; 0: nobody has it any more
	Running bool          `json:"running"`         // a statement is under way
	Summary string        `json:"summary"`         // of the statement that runs, or of the last one
	Stack   []string      `json:"stack,omitempty"` // of the borrower, the innermost frame first; empty: not taken
}

// wordsFor explain wait events that are this program's business, or that are frequent and whose names say little.
var wordsFor = map[Wait]string{
	{"Client", "ClientRead"}:   "for this program to send more",
	{"Client", "ClientWrite"}:  "for this program to read the rows",
	{"IO", "DataFileRead"}:     "for the disk",
	{"IPC", "ExecuteGather"}:   "for its parallel workers",
	{"IPC", "SafeSnapshot"}:    "for a snapshot that no writer can disturb",
	{"IPC", "SyncRep"}:         "for a synchronous standby to confirm",
	{"Timeout", "PgSleep"}:     "it calls pg_sleep",
	{"Timeout", "VacuumDelay"}: "vacuum pauses at its cost limit",
}

// String says in words what the statement waits for, as in "waits for Lock/transactionid held by pid 4711 (application
// billing, idle in transaction for 42s)".
func (c *Cause) String() string {
	var b strings.Builder
	if c.ByText {
		b.WriteString("behind a pooler, as the only session with this text and age: ")
	}
	switch c.State {
	case Reading:
		b.WriteString("the server is done: its answer is on the way, or this program is reading the rows")
	case Unseen:
		b.WriteString("the server is idle and hasn't got it: it is on the way, or lost")
	case Running:
		b.WriteString("runs on the server, without a wait event (CPU, as a rule)")
	default:
		c.writeWait(&b)
	}
	return b.String()
}

// writeWait writes what a statement that waits is waiting for.
func (c *Cause) writeWait(b *strings.Builder) {
	b.WriteString("waits for " + c.Wait.String())
	if c.Parallel {
		b.WriteString(" in a parallel worker")
	}
	if words := wordsFor[c.Wait]; words != "" {
		b.WriteString(" (" + words + ")")
	}
	if len(c.Chain) == 0 {
		return
	}
	b.WriteString(" held by " + c.Chain[0].String())
	if c.Others > 0 {
		fmt.Fprintf(b, " and %d more that hold it or come first", c.Others)
	}
	if len(c.Chain) > 1 {
		b.WriteString(", which waits for " + c.Chain[0].Wait.String() + " held by " + c.Chain[1].String())
	}
	if root := c.Root(); len(c.Chain) > 2 && root != nil {
		fmt.Fprintf(b, ", and so on; at the root of %d: %s", len(c.Chain), root.String())
	} else if len(c.Chain) > 2 {
		b.WriteString(", and so on")
	}
	if c.Itself {
		b.WriteString("; perhaps for itself: a statement beside a transaction of the same function waits for that transaction")
	}
}

// OwnStack returns the stack of the borrower of the first blocker that is one of this pool's own connections. It is nil if
// there is no such blocker, or the stack was not taken.
func (c *Cause) OwnStack() []string {
	for i := range c.Chain {
		if own := c.Chain[i].Own; own != nil {
			return own.Stack
		}
	}
	return nil
}

// Root returns the last of the chain, whose end would let all others go on. It is nil if nothing blocks the statement, or
// if the last one waits for a lock too: then it is a deadlock, or who comes next isn't known.
func (c *Cause) Root() *Blocker {
	if len(c.Chain) == 0 {
		return nil
	}
	last := &c.Chain[len(c.Chain)-1]
	if last.Wait.Type == "Lock" {
		return nil
	}
	return last
}

// String names the blocker and says in brackets what is known of it.
func (b *Blocker) String() string {
	if b.PID == 0 {
		if b.Prepared == "" {
			return "a prepared transaction"
		}
		return fmt.Sprintf("the prepared transaction %q (for %s)", b.Prepared, Rough(b.InState))
	}
	return fmt.Sprintf("pid %d (%s)", b.PID, strings.Join(b.facts(), ", "))
}

// hiddenState says that the role may not see what a session does, and what would change that.
const hiddenState = "its state is hidden from this role, pg_read_all_stats would show it"

// facts are what is known of a blocker, in words.
func (b *Blocker) facts() (facts []string) {
	switch {
	case b.Own != nil:
		facts = append(facts, "this pool's own")
	case b.Kind != "" && b.Kind != "client backend":
		facts = append(facts, b.Kind)
	case b.Application != "":
		facts = append(facts, "application "+b.Application)
	case b.User != "":
		facts = append(facts, "user "+b.User)
	}
	if b.State != "" {
		facts = append(facts, b.State+" for "+Rough(b.InState))
	}
	if b.Hidden {
		facts = append(facts, hiddenState)
	}
	if b.Own != nil {
		facts = append(facts, b.Own.facts()...)
	}
	if len(facts) == 0 {
		facts = append(facts, "nothing is known of it")
	}
	return facts
}

// facts are what a pool knows of a connection of its own, in words.
func (o *Own) facts() (facts []string) {
	if o.Held > 0 {
		facts = append(facts, "held since "+Rough(o.Held)+" by "+cmp.Or(o.Borrower(), "a caller whose stack was not taken"))
	}
	if o.Summary != "" {
		which := "last "
		if o.Running {
			which = "in "
		}
		facts = append(facts, which+o.Summary)
	}
	return facts
}

// Borrower returns the innermost frame of the borrower's stack without the path of its package, as in "billing.(*Job).run
// job.go:88", or "" if the stack was not taken.
func (o *Own) Borrower() string {
	if len(o.Stack) == 0 {
		return ""
	}
	return ShortFrame(o.Stack[0])
}

// ShortFrame returns a frame, "function file:line", without the paths of its package and its file.
func ShortFrame(frame string) string {
	function, place, _ := strings.Cut(frame, " ")
	return path.Base(function) + " " + path.Base(place)
}

// Shorten cuts a text off after this many bytes.
func Shorten(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…" // the cut may be in the middle of a character
}

// Rough is a duration with as many digits as somebody needs who reads it: 80ms, 4.2s, 42s, 3m20s.
func Rough(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
