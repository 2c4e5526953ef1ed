package wire

import "sync/atomic"

// outside is what goroutines other than those that read and write want of a Tap.
type outside struct {
	writing atomic.Bool           // a write is under way that may take a while
	listens atomic.Bool           // set by Listen, and cleared by the next read that gets something
	severed atomic.Pointer[error] // what reads and writes end with from now on; nil: they go on
}

// Awaits reports whether the other end owes something: the answer to what was written, or to take in what is being written. It
// is safe for concurrent use.
func (t *Tap) Awaits() bool { return !t.Answered() || t.outside.writing.Load() }

// Listen begins to listen for a sign of life: until something was read, Deaf reports true. It is safe for concurrent use, but
// meant for one goroutine that looks again and again.
func (t *Tap) Listen() { t.outside.listens.Store(true) }

// Deaf reports whether nothing was read since Listen. It is safe for concurrent use.
func (t *Tap) Deaf() bool { return t.outside.listens.Load() }

// Sever has all reads and writes end with err, from now on. Whoever calls it sets the connection's deadline to a time in the
// past afterwards, which ends those under way. If another deadline is set in between, they end at that one. What is being read
// just then is still passed on. Only the first call counts. It is safe for concurrent use.
func (t *Tap) Sever(err error) { t.outside.severed.CompareAndSwap(nil, &err) }

// Severed returns what Sever was called with; nil: it was not called. It is safe for concurrent use.
func (t *Tap) Severed() error {
	if err := t.outside.severed.Load(); err != nil {
		return *err
	}
	return nil
}

// orSevered returns what the connection was severed with in place of the error of a read or a write, if it was.
func (t *Tap) orSevered(err error) error {
	if severed := t.Severed(); severed != nil {
		return severed
	}
	return err
}
