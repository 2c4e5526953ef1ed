package oracle

import (
	"context"
	"database/sql/driver"
	"errors"
	"slices"
	"strings"

	"github.com/pgprod/pgprod"
)

// A difference is something that pgprod does otherwise than pgx on purpose.
type difference struct {
	name   string
	manual string // the sentence of README.md or of a page in internal/docs that says so
	// excuses looks whether it is this that differs. If so it makes the facts that it explains the same, and no others, and
	// takes what is no longer in the same state on both sides away from the program.
	excuses func(*pair) bool
	example program // meets it
}

// Sentences of the manual that more than one row rests on.
const (
	neverBad = "`driver.ErrBadConn` is never returned."
	ownWords = "Errors of pgprod's own begin with `pgprod: `"
)

// errorPairs calls excuse with each pair of facts that differ where one is an error, and makes those the same that it
// excuses.
func (p *pair) errorPairs(excuse func(theirs, ours *fact) bool) (met bool) {
	theirs, ours := p.both()
	for i := range min(len(theirs.facts), len(ours.facts)) {
		t, o := &theirs.facts[i], &ours.facts[i]
		if t.name == o.name && t.text != o.text && (t.err != nil || o.err != nil) && excuse(t, o) {
			t.text, met = o.text, true
		}
	}
	return met
}

func isEnd(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// asksAgain reports whether in this step pgx, and not pgprod, asks the server about a text that it knows: for Prepare, or for
// a statement that the Stmt of a transaction has made.
func (p *pair) asksAgain() bool {
	switch s := p.step.(type) {
	case prepare:
		return p.ours.side.knows(p.ours.db, s.text.text)
	case interface{ where() place }:
		at := s.where()
		return at.kind == "stmt" && p.ours.stmt[at.n] != nil && p.ours.stmt[at.n].ofTx
	}
	return false
}

// waitsForPrepared reports whether in this step pgx, and not pgprod, has waited in vain for what a transaction has locked
// because the server was asked about a statement in it.
func (p *pair) waitsForPrepared() bool {
	theirs, ours := p.both()
	return sqlState(theirs.failure()) == lockTimeout && sqlState(ours.failure()) != lockTimeout &&
		slices.ContainsFunc(p.ours.tx[:], func(x *txHandle) bool { return x != nil && !x.done && x.prepares })
}

// drop takes the step's statement away, and what shares its connection.
func (p *pair) drop() {
	n := 0
	switch s := p.step.(type) {
	case prepare:
		n = s.stmt
	case interface{ where() place }:
		n = s.where().n
	}
	for _, w := range []*world{p.theirs, p.ours} {
		w.vacate(new(observation), n)
	}
	p.retire()
}

// leaves takes out what pgx's next borrowers find, if pgprod's find nothing at all.
func (p *pair) leaves() bool {
	theirs, ours := p.both()
	if ours.find(nextBorrower) != nil {
		return false
	}
	before := len(theirs.facts)
	theirs.facts = slices.DeleteFunc(theirs.facts, func(f fact) bool { return f.name == nextBorrower })
	return len(theirs.facts) < before
}

// isBare reports whether an error is a context's, as it is.
func isBare(err error) bool { return err == context.Canceled || err == context.DeadlineExceeded }

func isBusy(err error) bool { return err != nil && strings.Contains(err.Error(), "conn busy") }

// isOutdated reports whether the server refused a statement since it was prepared for another schema, or is no longer.
func isOutdated(err error) bool {
	for state, says := range map[string]string{
		"0A000": "cached plan", "XX000": "cache lookup", "26000": "does not exist", "08P01": "result formats but query has",
	} {
		if sqlState(err) == state && strings.Contains(err.Error(), says) {
			return true
		}
	}
	return false
}

// own reports whether an error of ours has pgprod's words.
func own(err error) bool { return err != nil && strings.HasPrefix(err.Error(), "pgprod: ") }

var (
	onTx   = place{"tx", 0}
	onConn = place{"conn", 0}
	onDB   = place{"db", 0}
)

// differences is the table. Where the answer is stated there is nothing to take away, since nothing was done on pgx's side.
var differences = []difference{
	{
		name: "a statement on a *sql.Conn whose context had ended", manual: neverBad,
		excuses: func(p *pair) bool {
			met := p.errorPairs(func(t, o *fact) bool {
				// A *sql.Stmt is tried again by database/sql, which finds that it has closed the *sql.Conn. And pgx may find fault
				// with an argument before it looks at the context.
				c, ok := p.step.(interface{ over() bool })
				ended := ok && c.over() && t.err != nil && !isEnd(t.err) && sqlState(t.err) == ""
				return isEnd(o.err) && (ended || errors.Is(t.err, driver.ErrBadConn))
			})
			if met {
				p.retire()
			}
			return met
		},
		example: program{steps: []step{openConn{0}, exec{call{place: onConn, text: readings[1], ends: cancelled}}}},
	},
	{
		name: "a statement while rows are open", manual: neverBad,
		excuses: func(p *pair) bool {
			met := p.errorPairs(func(t, o *fact) bool {
				// pgx may find fault with an argument before it notices; the server says nothing to either.
				return isBusy(o.err) && own(o.err) && t.err != nil && sqlState(t.err) == ""
			})
			if met && !p.stated {
				p.retire() // to pgx, the open rows may have ended with it
			}
			return met
		},
		example: program{steps: []step{begin{place: onDB}, query{call: call{place: onTx, text: readings[0]}}, exec{call{place: onTx, text: readings[1]}}}},
	},
	{
		name: "a context that ends in the midst of a statement", manual: "the context's error (`DeadlineExceeded`, `Canceled`) and the server's (`57014`), both",
		excuses: func(p *pair) bool {
			if _, ok := p.step.(cut); !ok {
				return false
			}
			return p.errorPairs(func(t, o *fact) bool {
				return isEnd(o.err) && slices.Equal(t.is, o.is) && sqlState(t.err) == "" && sqlState(o.err) == "57014"
			})
		},
		example: program{steps: []step{openConn{0}, cut{place: onConn}}},
	},
	{
		name: "a *sql.Conn that has no connection yet when the *sql.DB is closed", manual: "your `*sql.DB` holds sessions, and an idle session holds no connection",
		excuses: func(p *pair) bool {
			_, ours := p.both()
			err := ours.failure()
			met := p.ours.closed && (errors.Is(err, errNone) || own(err) && strings.HasSuffix(err.Error(), "the database handle is closed"))
			p.over = p.over || met // pgx may have done something, and goes on
			return met
		},
		example: program{steps: []step{openConn{0}, closeDB{}, ping{place: onConn}}},
	},
	{
		name:   "a statement that was prepared before a change of the schema",
		manual: "so pgprod prepares it anew and asks again, where pgx returns the error.",
		excuses: func(p *pair) bool {
			met := p.errorPairs(func(t, o *fact) bool { return isOutdated(t.err) && !isOutdated(o.err) })
			p.over = p.over || met // pgx has not done it
			return met
		},
		example: program{conns: 1, steps: []step{
			query{call: call{place: onDB, text: allItems}, read: whole}, exec{call{place: onDB, text: schemas[0]}}, query{call: call{place: onDB, text: allItems}, read: whole},
		}},
	},
	{
		name:   "a text that the pool has prepared before is prepared again where that can't be",
		manual: "it costs one round trip per text and pool, to find mistakes early",
		excuses: func(p *pair) bool {
			if p.waitsForPrepared() { // pgx has not done it
				p.over = true
				return true
			}
			if !p.asksAgain() {
				return false
			}
			met := p.errorPairs(func(t, o *fact) bool { return isBusy(t.err) || sqlState(t.err) != "" })
			if met {
				p.drop()
			}
			return met
		},
		example: program{steps: []step{
			openConn{0}, ping{place: onConn}, prepare{place: onDB, text: readings[1]},
			begin{place: onConn}, exec{call{place: onTx, text: failings[0]}}, prepare{place: onTx, text: readings[1], stmt: 1},
		}},
	},
	{
		name:   "the Close of a *sql.Stmt while rows are open, or of one that a failed transaction did not prepare",
		manual: "A `*sql.Stmt` isn't bound to a connection, and leaks nothing on the server.",
		excuses: func(p *pair) bool {
			met := p.errorPairs(func(t, o *fact) bool {
				return t.name == "close of stmt" && (isBusy(t.err) || sqlState(t.err) == "25P02") && o.err == nil
			})
			p.theirs.left = p.theirs.left || met // the statement stays prepared there
			return met
		},
		example: program{steps: []step{
			openConn{0}, prepare{place: onConn, text: readings[1]}, query{call: call{place: onConn, text: readings[0]}}, closeStmt{0},
		}},
	},
	{
		name: "SET TRANSACTION ISOLATION LEVEL behind a SHOW with settings", manual: "To set them is a query.",
		excuses: func(p *pair) bool {
			met := p.errorPairs(func(t, o *fact) bool { return t.err == nil && sqlState(o.err) == "25001" && p.ours.sets })
			if met {
				theirs, ours := p.both()
				theirs.facts = slices.Clone(ours.facts) // among pgx's are those of its success
				p.drop()
			}
			return met
		},
		example: program{
			riders: riders{pgprod.BeginLazy, pgprod.PoolResetAuto, pgprod.TraceContextOff, true},
			steps: []step{
				begin{place: onDB}, exec{call{place: onTx, text: statement{text: "show timezone"}}},
				exec{call{place: onTx, text: statement{text: "set transaction isolation level serializable"}}},
			},
		},
	},
	{
		name: "what an error says", manual: ownWords,
		excuses: func(p *pair) bool {
			return p.errorPairs(func(t, o *fact) bool {
				if p.stated && o.err != nil && sqlState(o.err) == "" {
					return true // that the context has ended, or what is wrong with an argument
				}
				return t.err != nil && slices.Equal(t.is, o.is) && sqlState(t.err) == sqlState(o.err) && (own(o.err) || isBare(o.err))
			})
		},
		example: program{steps: []step{begin{place: onDB, isolation: 7}}},
	},
	{
		name: "what a session leaves behind", manual: "## What a session leaves behind is not lent again",
		excuses: (*pair).leaves,
		example: program{steps: []step{exec{call{place: onDB, text: sessions[0]}}}},
	},
}
