package faulttest

import (
	"fmt"
	"testing"

	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// ofWords is what the caller of a deed is told if PostgreSQL itself says that it has ended the session.
var ofWords = outcomes{
	byItself: {
		early: {wasDone}, open: {wasDone}, reading: {notDone}, completed: {wasDone}, read: {notDone}, told: {wasDone},
	},
	inOwnTx: {early: {notDone, wasDone}, open: {notDone}, told: {wasDone}},
	inInTx:  {early: {wasDone}, open: {wasDone}, told: {wasDone}},
	withKey: {early: {wasDone}, open: {wasDone}, told: {wasDone}},
	mayRepeat: {
		early: {wasDone}, open: {wasDone}, reading: {notDone}, completed: {wasDone}, read: {notDone}, told: {wasDone},
	},
}

// ofTimeouts is the same where the server says that a transaction has taken too long. A statement that commits by itself would
// take as long again.
var ofTimeouts = outcomes{
	byItself: {
		early: {wasDone}, open: {notDone}, reading: {notDone}, completed: {notDone}, read: {notDone}, told: {wasDone},
	},
	inOwnTx:   ofWords[inOwnTx],
	inInTx:    ofWords[inInTx],
	withKey:   ofWords[withKey],
	mayRepeat: ofWords[mayRepeat],
}

// words are what the proxy says in the server's place.
var words = []struct {
	name     string
	word     []byte
	end      faultproxy.End
	outcomes outcomes
	own      bool // PostgreSQL itself says so, which by the extended protocol it doesn't between its commit and ReadyForQuery
}{
	{"terminated, FIN", faultproxy.Terminated(), faultproxy.FIN, ofWords, true},
	{"terminated, RST", faultproxy.Terminated(), faultproxy.RST, ofWords, true},
	{"idle_session_timeout", faultproxy.Fatal("57P05", "idle", "ProcessInterrupts"), faultproxy.FIN, ofWords, true},
	{"idle_in_transaction_session_timeout", faultproxy.Fatal("25P03", "idle", "ProcessInterrupts"), faultproxy.FIN, ofWords, true},
	{"transaction_timeout", faultproxy.Fatal("25P04", "too long", "ProcessInterrupts"), faultproxy.FIN, ofTimeouts, true},
	{"a pooler's", faultproxy.Fatal("08006", "lost", ""), faultproxy.FIN, ofCuts, false},
	{"a pooler's, of its end", faultproxy.Fatal("57P01", "bye", ""), faultproxy.FIN, ofCuts, false},
	{"another function's", faultproxy.Fatal("57P01", "bye", "exec_simple_query"), faultproxy.FIN, ofCuts, false},
}

// TestEachPlaceOfTheServersWordHasItsAnswer has a FATAL error take the place of the answer to each message that the client
// sends, and of each message of the answers before it. It is emulated, and true: the proxy keeps the rest of the flight from
// the server, which rolls back what it has executed. Then the server is made to say it itself.
func TestEachPlaceOfTheServersWordHasItsAnswer(t *testing.T) {
	t.Parallel()
	operateOnAll(t, func(d deed, s script) (all []operation) {
		flights, replies, bytes, proof := s.flights(faultproxy.ToServer), s.flights(faultproxy.ToClient), 0, proofOf(d, s)
		place := len(s) // so that deeds and modes of few places begin with different words
		for f, flight := range flights {
			first, last := early, f == len(flights)-1
			if last {
				first = open
			}
			answers := 0 // how many messages answer what was sent of the flight so far
			for _, m := range flight {
				at := first
				for n := range answers + 1 {
					if n > 0 && last {
						at = at.after(replies[f][n-1].Kind, proof)
					}
					name := fmt.Sprintf("before %c of flight %d of %d, behind %d answers", m.Kind, f+1, len(flights), n)
					cut := faultproxy.Cut{Direction: faultproxy.ToServer, Bytes: bytes, Answers: n}
					place++
					all = append(all, wordsAt(d, name, cut, n == answers, place, at)...)
				}
				bytes += m.Size
				answers += answersTo(m, replies[f][answers:])
			}
		}
		return append(all, lateWords(d, s)...)
	})
}

// answersTo returns how many messages at the beginning of the server's further answers belong to a message of the client's.
func answersTo(m faultproxy.Passed, further script) int {
	n := 1
	switch {
	case m.Kind == 'D' && further[0].Kind == 't': // a statement is described, not a portal
		n = 2
	case m.Kind == 'E':
		for further[n-1].Kind == 'D' {
			n++
		}
	}
	return n
}

// wordTurns is how many places in a row share the words but the first.
const wordTurns = 3

// wordsAt returns the operations at one place: with the first word only, or also with the server's own and with others, which
// are all of them if there are as many -cuts as everyEnd, else those whose turn it is.
func wordsAt(d deed, name string, cut faultproxy.Cut, others bool, place int, at stage) (operations []operation) {
	for i, w := range words {
		if i > 0 && (!others || *cutCount < everyEnd && i%wordTurns != place%wordTurns) {
			continue
		}
		said := cut
		said.Word, said.End = w.word, w.end
		operations = append(operations, operation{name: w.name + " " + name, cut: said, may: w.outcomes.at(d.kind, at)})
	}
	if !others {
		return operations
	}
	cut.Stay = true
	return append(operations, operation{name: "the server's own " + name, cut: cut, terminate: true, may: ofWords.at(d.kind, at)})
}

// lateWords come when the server has committed, in place of what it says behind the completion.
func lateWords(d deed, s script) (all []operation) {
	at, bytes := open, 0
	replies := s.flights(faultproxy.ToClient)
	sent := s.flights(faultproxy.ToServer)
	simple := sent[len(sent)-1][0].Kind == 'Q'
	for f, reply := range replies {
		for _, m := range reply {
			bytes += m.Size
			if f < len(replies)-1 {
				continue
			}
			if at = at.after(m.Kind, proofOf(d, s)); m.Kind != 'C' {
				continue
			}
			for _, w := range words {
				if w.own && !simple {
					continue
				}
				cut := faultproxy.Cut{Direction: faultproxy.ToClient, Bytes: bytes, AtOnce: true, Word: w.word, End: w.end}
				all = append(all, operation{name: w.name + " late", cut: cut, may: ofCuts.at(d.kind, at)})
			}
		}
	}
	return all
}
