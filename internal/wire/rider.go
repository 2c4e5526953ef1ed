package wire

import (
	"errors"
	"sync/atomic"
)

// A Rider is a sequence of messages of the extended protocol that travels in front of a statement, in the same write, and
// whose answers nobody else gets to see. It has no Sync of its own. So if the server refuses one of its messages, it skips
// everything up to the statement's own Sync: nothing runs without its riders. The error takes the place of the statement's
// answer.
type Rider struct {
	Messages []byte
	// Answers are the types of the messages by which the server says that it has done what it was asked for, in order: 1
	// for Parse, 2 for Bind, 3 for Close, C for Execute. Rows that come before a C are the rider's too.
	Answers string
	// Again: it goes with each flight of a statement that takes several, because what it does ends with the flight.
	// Otherwise it goes with the first.
	Again bool
}

// rides are the riders of a Tap. They are boarded and sent by the goroutine that writes, and their answers are taken out by
// the one that reads.
//
// # Who owes a ReadyForQuery
//
// A flight is what is written up to a Sync, or one Query message. The server answers the messages of a flight in order, and
// then says ReadyForQuery once. After an error it answers nothing more until the Sync. pgx reads until it has the
// ReadyForQuery of each Sync and Query that it has written.
//
// A rider adds messages at the beginning of a flight and no Sync. So the number of ReadyForQuery messages stays the one that
// pgx expects, whatever happens to the rider; and what has to be taken out of an answer is always at its beginning:
//
//	boarded ──flight begins with Parse or Bind──▶ taking ──last answer of the last rider──▶ done
//	   │                                            │
//	   │ flight of another kind: stays boarded      └──ErrorResponse: passed on, and all that follows──▶ done
//	   └── flight begins with Query: refused, for the server would run that even after an error of the rider's
//
// While answers are taken out, what the server may send at any time (notices, changed settings, notifications) is passed
// on.
type rides struct {
	boarded []*Rider               // go with the next flight
	flights int                    // how many have gone since Board
	buffer  []byte                 // the last flight with its riders, kept for its memory
	taking  atomic.Pointer[taking] // what is being taken out of the answer; nil: nothing
	refused atomic.Pointer[Rider]  // the rider that the server has refused since Board; nil: none
}

// Board has riders go with the next flight that begins with Parse or Bind, in this order and behind those that are boarded
// already. GetOff must be called when the statement is over. Call it from the goroutine that writes, before the statement
// is sent.
func (t *Tap) Board(riders ...*Rider) {
	t.rides.boarded = append(t.rides.boarded, riders...)
}

// GetOff has no rider travel any more, and reports whether the riders went, and which one the server has refused, nil for
// none. Then it has also refused what came behind it: further riders and the statement.
func (t *Tap) GetOff() (went bool, refused *Rider) {
	r := &t.rides
	went, refused = r.flights > 0, r.refused.Load()
	clear(r.boarded)
	r.boarded, r.flights = r.boarded[:0], 0
	if refused != nil {
		r.refused.Store(nil)
	}
	return went, refused
}

// RiderRefused returns the rider that the server has refused, as GetOff does, while the statement goes on.
func (t *Tap) RiderRefused() *Rider { return t.rides.refused.Load() }

// errLeftBehind is the error of a statement that would be executed without its riders. Whoever boards them knows by which
// protocol pgx sends a statement. Should that be wrong, losing the connection is better than running the statement.
var errLeftBehind = errors.New("pgprod: a statement of the simple protocol can't have riders")

// The types of the messages that are looked at here.
const (
	parse    = 'P' // to the server
	bind     = 'B'
	describe = 'D'
	closing  = 'C'
	flush    = 'H'
	syncing  = 'S'
	query    = 'Q'

	errorResponse = 'E' // from the server
	dataRow       = 'D'
	complete      = 'C'
	ready         = 'Z'
)

// writeFlight writes what pgx has given to Write, with the riders in front, and returns how many bytes of pgx's were
// written. That is at least 1 if anything of the riders was, so that nobody believes that nothing was sent.
func (t *Tap) writeFlight(flight []byte) (int, error) {
	r := &t.rides
	if len(r.boarded) == 0 || flight[0] != parse && flight[0] != bind {
		if len(r.boarded) > 0 && flight[0] == query {
			return 0, errLeftBehind
		}
		return t.w.Write(flight)
	}
	r.buffer = r.buffer[:0]
	k := &taking{}
	k.riders = k.room[:0]
	for _, rider := range r.boarded {
		if r.flights == 0 || rider.Again {
			r.buffer = append(r.buffer, rider.Messages...)
			k.riders = append(k.riders, rider)
		}
	}
	added := len(r.buffer)
	if added == 0 {
		return t.w.Write(flight)
	}
	r.buffer = append(r.buffer, flight...)
	r.taking.Store(k)
	n, err := t.w.Write(r.buffer)
	switch {
	case n > 0:
		n = max(1, n-added)
	case !t.secure: // the riders have not left either, see Tap.secure
		r.taking.Store(nil)
		return 0, err
	}
	r.flights++
	if cap(r.buffer) > maxFlightBuffer {
		r.buffer = nil
	}
	return n, err
}

// maxFlightBuffer is the size in bytes up to which the memory of a flight is kept for the next.
const maxFlightBuffer = 16 << 10

// taking is the state of taking the riders' answers out of what is read. Messages may be cut anywhere between two reads.
type taking struct {
	room   [6]*Rider // has room for riders, as a rule
	riders []*Rider  // those of the flight whose answers have not all come; the first one's are coming
	came   int       // how many of the first one's have come

	partial      // the message that is being read
	drop    bool // it is a rider's
	over    bool // it is the last that concerns the riders
}

// take removes the riders' answers from what was read and returns how many bytes are left, which are moved to the front.
func (r *rides) take(p []byte) int {
	k := r.taking.Load()
	if k == nil {
		return len(p)
	}
	kept := 0
	for i := 0; i < len(p); {
		if k.got == len(k.header) && k.body == 0 { // the message is complete
			if k.over {
				r.taking.Store(nil)
				return kept + copy(p[kept:], p[i:])
			}
			k.got = 0
		}
		n := 1
		switch {
		case k.got == 0:
			r.begin(k, p[i])
			k.header[0], k.got = p[i], 1
		case k.got < len(k.header):
			k.header[k.got] = p[i]
			k.got++
			if k.got == len(k.header) {
				k.body = bodySize(k.header[1:])
			}
		default:
			n = min(k.body, len(p)-i)
			k.body -= n
		}
		if !k.drop {
			copy(p[kept:], p[i:i+n])
			kept += n
		}
		i += n
	}
	if k.over && k.got == len(k.header) && k.body == 0 {
		r.taking.Store(nil)
	}
	return kept
}

// begin is called with the type of each message. It decides whether the message is a rider's.
func (r *rides) begin(k *taking, kind byte) {
	rider := k.riders[0]
	want := rider.Answers[k.came]
	switch {
	case kind == 'N', kind == 'S', kind == 'A': // the server sends these at any time
		k.drop = false
	case kind == want:
		k.drop = true
		if k.came++; k.came == len(rider.Answers) {
			k.riders, k.came = k.riders[1:], 0
			k.over = len(k.riders) == 0
		}
	case kind == dataRow && want == complete:
		k.drop = true
	default: // an error, or what the server must not say here, of which pgx complains
		k.drop, k.over = false, true
		if kind == errorResponse {
			r.refused.Store(rider)
		}
	}
}
