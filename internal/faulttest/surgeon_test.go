package faulttest

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// A stage is how far a deed has come when its connection is cut. What decides about it is its last flight: that of a statement
// that commits by itself, or COMMIT.
type stage int

const (
	early     stage = iota // the last flight was not written
	open                   // it was written, and nothing of its answer has come that matters
	reading                // a row of its answer has come
	completed              // the completion has come, and not what proves that it is committed
	read                   // the same behind rows
	told                   // the proof has come
)

// after returns the stage after a message of the last answer. proof is the message that proves the success.
func (s stage) after(kind, proof byte) stage {
	switch {
	case kind == proof, s == told:
		return told
	case kind == 'C' && s == reading:
		return read
	case kind == 'C':
		return completed
	case kind == 'D':
		return reading
	}
	return s
}

// outcomes are what the caller of a deed may be told if its connection is cut at a stage.
type outcomes map[kind]map[stage][]answer

// at returns what may be told at one of several stages.
func (o outcomes) at(k kind, stages ...stage) (may []answer) {
	for _, s := range stages {
		may = append(may, o[k][s]...)
	}
	return may
}

// An operation is what is done to the connection of a deed.
type operation struct {
	name      string
	cut       faultproxy.Cut
	terminate bool // the server is told to end the session when the cut is reached
	may       []answer
}

// A script is what passes when a deed is done.
type script []faultproxy.Passed

// endsFlight reports whether a message ends a flight, or the answer to one.
func endsFlight(m faultproxy.Passed) bool {
	if m.Direction == faultproxy.ToClient {
		return m.Kind == 'Z'
	}
	return m.Kind == 'Q' || m.Kind == 'S'
}

// has reports whether a message of this type is in the script.
func (s script) has(kind byte) bool {
	return slices.ContainsFunc(s, func(m faultproxy.Passed) bool { return m.Kind == kind })
}

// flights splits what passes in one direction into flights.
func (s script) flights(d faultproxy.Direction) (all []script) {
	begins := true
	for _, m := range s {
		if m.Direction != d {
			continue
		}
		if begins {
			all = append(all, nil)
		}
		last := len(all) - 1
		all[last] = append(all[last], m)
		begins = endsFlight(m)
	}
	return all
}

// proofOf returns the message of a deed's last answer that proves that it is committed: the completion of COMMIT, or of a
// statement without rows by the simple protocol. By the extended protocol a statement that commits by itself is committed
// after its completion; and where rows are read, their end is what counts.
func proofOf(d deed, s script) byte {
	inTx := d.kind != byItself && d.kind != mayRepeat
	if inTx || s.has('Q') && !s.has('T') {
		return 'C'
	}
	return 'Z'
}

// A surgeon operates on the connections of a pool of its own, which has one at a time.
type surgeon struct {
	t       *testing.T
	admin   *sql.DB
	mode    string
	proxy   *faultproxy.Proxy
	db      *sql.DB
	number  int // of the last deed
	reports []report
}

// operateOnAll does each deed in each mode, for the first time on a connection and, if that makes a difference, again, and
// each time one of the operations that plan returns for what passes. It checks what the callers are told.
func operateOnAll(t *testing.T, plan func(d deed, s script) []operation) {
	t.Helper()
	dsn := judgedDatabase(t)
	admin := openPgx(t, dsn)
	var all []*surgeon
	var wg sync.WaitGroup
	gate := make(chan struct{}, 8) // most of the time InTx pauses
	for _, mode := range []string{"cache_statement", "exec", "simple_protocol"} {
		for _, d := range deeds {
			proxy := faultproxy.StartTB(t, dsn)
			db := openPool(t, with(proxy.DSN(), "default_query_exec_mode", mode, "pool_size", "1", "max_overflow", "0"))
			s := &surgeon{t: t, admin: admin, mode: mode, proxy: proxy, db: db, number: len(all) * 100_000}
			all = append(all, s)
			wg.Go(func() {
				gate <- struct{}{}
				defer func() { <-gate }()
				first, second := s.script(d, false), s.script(d, true)
				s.operate(d, false, plan(d, first))
				if !slices.Equal(first, second) {
					s.operate(d, true, plan(d, second))
				}
			})
		}
	}
	wg.Wait()
	j := newJudge(t, admin)
	operations := 0
	for _, s := range all {
		for _, r := range s.reports {
			assert.Empty(t, j.verdict(r, answerOf(r.err)), r.String())
		}
		operations += len(s.reports)
	}
	t.Logf("%d operations", operations)
}

// script returns what passes when a deed is done.
func (s *surgeon) script(d deed, again bool) script {
	s.ready(d, again)
	return s.proxy.Transcript(func() { assert.NoError(s.t, d.do(context.Background(), s.db, s.work(again)), d.name) })
}

// ready makes a new connection, on which the deed's statements are run if it is to be done again.
func (s *surgeon) ready(d deed, again bool) {
	s.proxy.CloseAll(faultproxy.FIN)
	assert.NoError(s.t, s.db.Ping())
	if again {
		assert.NoError(s.t, d.do(context.Background(), s.db, s.work(false)), d.name)
	}
}

// work returns the next one, with statements that are new or those of the one before.
func (s *surgeon) work(again bool) work {
	s.number++
	if again {
		return newWork(s.number, s.number-1)
	}
	return newWork(s.number, s.number)
}

// operate does a deed once for each operation, and checks what its caller is told.
func (s *surgeon) operate(d deed, again bool, plan []operation) {
	for _, o := range plan {
		s.ready(d, again)
		cut, w := s.proxy.Arm(o.cut), s.work(again)
		var terminator sync.WaitGroup
		if o.terminate {
			terminator.Go(func() { // the place is reached, or else the test fails below
				<-cut.Reached()
				exec(s.t, s.admin, "select pg_terminate_backend($1)", cut.Conn().PID())
			})
		}
		err := d.do(context.Background(), s.db, w)
		r := report{d, w, err, fmt.Sprintf("%s, again %v, %s", s.mode, again, o.name)}
		s.reports = append(s.reports, r)
		if !cut.Disarm() {
			s.t.Errorf("the place was not reached: %v", r)
			return
		}
		terminator.Wait()
		// To have done it is never wrong, and the judge looks whether it is true: what passes isn't the same each time.
		if answer := answerOf(err); answer != wasDone && !slices.Contains(o.may, answer) {
			s.t.Errorf("it may be one of %v: %v", o.may, r)
		}
	}
}
