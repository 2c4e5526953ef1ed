package link

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/pgprod/pgprod/internal/settings"
	"github.com/pgprod/pgprod/internal/sqlsummary"
	"github.com/pgprod/pgprod/internal/wire"
)

// cleaning is the rider that undoes what was left in the session, kept for the next time.
type cleaning struct {
	left  sqlsummary.Left // what it undoes
	rider *wire.Rider     // nil: none was made yet
}

// deallocated is called when the statements of ours may not be prepared any more.
func (s *session) deallocated() {
	s.prepared, s.cleaning, s.begin = nil, cleaning{}, keptBegin{}
}

// cleaningRider returns a rider that undoes what earlier borrowers may have left in the session.
//
// It has a transaction of its own, which is committed before the statement begins. So a statement that fails doesn't bring
// back what was undone, sees no snapshot and no time from before, and may be one that refuses to run in a transaction.
func (c *Conn) cleaningRider() *wire.Rider {
	kept, owed := &c.session.cleaning, c.session.owed
	if kept.rider != nil && kept.left == owed {
		return kept.rider
	}
	r := &wire.Rider{}
	join(r, passing(plainBegin, false))
	restores := len(c.kept) > 0 && owed&(sqlsummary.LeftSettings|sqlsummary.LeftRole) != 0
	for _, undo := range undoing {
		if owed&undo.left != 0 {
			for _, text := range undo.texts {
				join(r, passing(text, false))
			}
		}
		if restores && undo.left == sqlsummary.LeftSettings {
			text, parameters := setForSession(c.kept)
			join(r, c.recurring("pgprod_restore", text, false, parameters...))
		}
	}
	if owed&leftRaised != 0 && owed&sqlsummary.LeftSettings == 0 {
		join(r, passing(setTimeout("", "", c.kept), false))
	}
	join(r, passing("commit", false))
	if len(c.ride.names) == 0 { // else it prepares a statement, which it needn't do the next time
		*kept = cleaning{owed, r}
	}
	return r
}

// leftRaised is one more of what may be left in a session: the server's statement_timeout was raised for a statement. It is
// undone whatever pool_reset says, since it is pgprod that has left it.
const leftRaised = sqlsummary.LeftForgotten << 1

// join adds a rider to another one, which does what both do.
func join(r, one *wire.Rider) {
	r.Messages = append(r.Messages, one.Messages...)
	r.Answers += one.Answers
}

// undoing says how to undo what was left. The role goes first, since a lesser one may not be allowed to do what follows,
// and the parameters second, since they may be in the way of the rest.
var undoing = []struct {
	left  sqlsummary.Left
	texts []string
}{
	{sqlsummary.LeftRole, []string{"reset session authorization", "reset role"}},
	{sqlsummary.LeftSettings, []string{"reset all"}},
	{sqlsummary.LeftCursors, []string{"close all"}},
	{sqlsummary.LeftListening, []string{"unlisten *"}},
	{sqlsummary.LeftTables, []string{"discard temp"}},
	{sqlsummary.LeftSequences, []string{"discard sequences"}},
	{sqlsummary.LeftLocks, []string{"select pg_catalog.pg_advisory_unlock_all()"}},
	// DEALLOCATE ALL would take what pgx has prepared, too.
	{sqlsummary.LeftNames, []string{"do $$ declare name text; begin " +
		"for name in select p.name from pg_catalog.pg_prepared_statements p where p.from_sql loop " +
		"execute pg_catalog.format('deallocate %I', name); end loop; end $$ language plpgsql"}},
}

// keptSettings returns the parameters that a new session has and that RESET may not bring back: those that set_config has
// set, and those of the startup message that a pooler doesn't hand on. PgBouncer keeps those that the server reports, and
// sets them, by SET, on whichever of its connections a client gets; to the server they are no more than the session's.
func keptSettings(cfg *settings.Config) []settings.Setting {
	all := slices.Clone(cfg.Set)
	for _, name := range slices.Sorted(maps.Keys(cfg.Conn.RuntimeParams)) {
		switch strings.ToLower(name) {
		case applicationName, "client_encoding", "datestyle", "default_transaction_read_only", "intervalstyle", "search_path",
			"standard_conforming_strings", "timezone":
			all = append(all, settings.Setting{Name: name, Value: cfg.Conn.RuntimeParams[name]})
		}
	}
	return all
}

// endSession is called when a visit ends. What the borrower may have left is to be undone before the next borrower's first
// statement.
func (c *Conn) endSession() {
	s := &c.session
	if c.dialer.cfg.PoolReset == settings.ResetAlways && c.tap.Mark() != c.attempt.borrowedMark {
		s.left = sqlsummary.LeftAnything
	}
	s.owed |= s.left
	s.left = 0
	if s.owed&c.setup.left&^undoable != 0 { // what the application's function has left there would be undone as well
		c.dirty = true
	}
}

// Owes reports whether something was left in the session that is to be undone.
func (c *Conn) Owes() bool { return c.session.owed != 0 }

// Clean undoes now, in a round trip of its own, what was left in the session. If that fails, the connection is dirty.
func (c *Conn) Clean(ctx context.Context) error {
	before := c.ride
	defer func() { c.ride = before }()
	c.ride = ride{}
	c.ride.clean = c.cleaningRider()
	err := c.rideAlone(ctx, c.ride.clean)
	if err != nil {
		c.dirty = true
	}
	return err
}

// cleaned is called when what was left in the session is undone.
func (c *Conn) cleaned() {
	listened := c.session.owed&sqlsummary.LeftListening != 0
	c.session.owed, c.session.raised = 0, ""
	if listened {
		c.dropNotifications()
	}
}

// dropNotifications forgets the notifications that pgx has received for an earlier borrower. pgx hands out what it has,
// before it looks at the context.
func (c *Conn) dropNotifications() {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for {
		if n, err := c.pgx.WaitForNotification(ended); n == nil || err != nil {
			return
		}
	}
}

// noteLeft is called when a query has ended, and notes what it may have left in the session. It reports whether the text can
// leave anything.
func (c *Conn) noteLeft(tag, sql string) bool {
	if !mayLeave(tag, sql) {
		return false
	}
	var left sqlsummary.Left
	for statement := range sqlsummary.Split(sql) {
		left |= sqlsummary.LeftBy(statement)
	}
	c.visit.left |= left
	if left&sqlsummary.LeftNames != 0 {
		left |= sqlsummary.LeftAnything // whatever EXECUTE does under that name
	}
	if left&sqlsummary.LeftForgotten != 0 { // and pgx would go on to use what it has prepared
		c.dirty = true
	}
	if left&(sqlsummary.LeftForgotten|sqlsummary.LeftNames) != 0 { // what we have prepared may be gone, too
		c.session.deallocated()
		c.ride.names = nil // also what has travelled with this very statement
	}
	if c.dialer.cfg.PoolReset != settings.ResetOff {
		c.session.left |= left &^ sqlsummary.LeftForgotten
	}
	return left != 0
}

// mayLeave reports whether a text may leave something in the session, so that it is worth a closer look. It is a cheap
// filter that is true of few texts. tag is the command tag of the last statement in the text, "" if one has failed: those
// before it may have been executed, and an advisory lock stays even if its statement fails.
func mayLeave(tag, sql string) bool {
	word, _, _ := strings.Cut(tag, " ")
	switch word {
	case "SET", "RESET", "LISTEN", "PREPARE", "DECLARE", "DO", "CALL", "DISCARD", "DEALLOCATE", "CREATE":
		return true
	}
	return !isSingle(sql) || mentions(sql, "set_config") || mentions(sql, "_advisory_lock") ||
		word == "SELECT" && (beginsWithCreate(sql) || contains(sql, "temp"))
}
