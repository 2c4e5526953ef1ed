package activity

import (
	"fmt"
	"strings"
)

// Name returns the session's pid in words, or the name of a prepared transaction.
func (n *Node) Name() string {
	switch {
	case n.PID != 0:
		return fmt.Sprintf("pid %d", n.PID)
	case n.Prepared != "":
		return fmt.Sprintf("prepared transaction %q", n.Prepared)
	}
	return "a prepared transaction"
}

// Who says which program's session it is, as in "application billing, user b". It is "" if nothing is known.
func (n *Node) Who() string {
	var facts []string
	if n.Kind != "" && n.Kind != "client backend" {
		facts = append(facts, n.Kind)
	}
	for _, fact := range [][2]string{{"application ", n.Application}, {"user ", n.User}, {"database ", n.Database}} {
		if fact[1] != "" {
			facts = append(facts, fact[0]+fact[1])
		}
	}
	return strings.Join(facts, ", ")
}

// Whose says whether the session is one of this pool's connections. It is "" if that isn't known, as of a prepared
// transaction or behind a pooler.
func (n *Node) Whose() string {
	switch {
	case n.Own != nil:
		return "this pool's own"
	case n.PID == 0 || n.ByText:
		return ""
	}
	return "not this pool's"
}

// Does says what the session does and for how long, as in "idle in transaction for 42s" or "waits for Lock/relation for 3s".
// It is "" if nothing is known.
func (n *Node) Does() string {
	does := n.State
	if n.Wait.Type != "" && !strings.HasPrefix(n.State, "idle") {
		does = "waits for " + n.Wait.String()
	}
	switch {
	case n.PID == 0 && n.InState > 0:
		does = "prepared"
	case does == "" && n.Hidden:
		return hiddenState
	}
	if does != "" && n.InState > 0 {
		does += " for " + Rough(n.InState)
	}
	return does
}

// HeldBy says who has borrowed the connection, if it is this pool's own, as in "held since 42s by billing.(*Job).run
// job.go:88". It is "" otherwise, and if nobody has it any more.
func (n *Node) HeldBy() string {
	if n.Own == nil || n.Own.Held <= 0 {
		return ""
	}
	return n.Own.facts()[0]
}

// Notes says what else is to be known of the session: a deadlock, or further sessions that block it.
func (n *Node) Notes() (notes []string) {
	if n.Deadlock {
		notes = append(notes, "a deadlock: it waits for one of those below it")
	}
	if n.Others > 0 {
		notes = append(notes, fmt.Sprintf("%d more hold the lock too, or come first", n.Others))
	}
	if n.Itself {
		notes = append(notes, "perhaps it waits for itself: a statement beside a transaction of the same function")
	}
	return notes
}
