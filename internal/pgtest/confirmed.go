package pgtest

import (
	"runtime"
	"testing"
	"time"
)

// A Trial is one attempt of Confirmed.
type Trial struct {
	testing.TB
	late   bool // a cancellation was confirmed too late, or not at all
	failed bool
}

// Confirmed has try cut statements short by Trial.Cut, and again if the server was late to confirm it. It has half a
// second; then pgprod closes the connection, and what try expects of it doesn't hold. A busy machine may be late now and
// then: what fails in such an attempt doesn't count, five of them in a row do.
func Confirmed(t testing.TB, try func(*Trial)) {
	t.Helper()
	for range 5 {
		trial, done := &Trial{TB: t}, make(chan struct{})
		go func() { // so that FailNow can end it
			defer close(done)
			try(trial)
		}()
		<-done
		if trial.failed || t.Failed() {
			t.FailNow()
		}
		if !trial.late {
			return
		}
	}
	t.Fatal("the server was late to confirm a cancellation, five times in a row")
}

// Cut does what is to be cut short after limit, and returns its error.
func (t *Trial) Cut(limit time.Duration, do func() error) error {
	start := time.Now()
	err := do()
	if time.Since(start) > limit+400*time.Millisecond {
		t.late = true
	}
	return err
}

// Errorf fails the test, unless the server was late.
func (t *Trial) Errorf(format string, args ...any) {
	if !t.late {
		t.failed = true
		t.TB.Helper()
		t.TB.Errorf(format, args...)
	}
}

// FailNow ends the attempt.
func (t *Trial) FailNow() {
	t.failed = t.failed || !t.late
	runtime.Goexit()
}

// Fatalf fails the test, unless the server was late, and ends the attempt.
func (t *Trial) Fatalf(format string, args ...any) {
	t.TB.Helper()
	t.Errorf(format, args...)
	t.FailNow()
}
