package pgtest

import (
	"runtime"
	"testing"
	"time"
)

// A Trial is one attempt of Confirmed. It is the testing.TB for the attempt's assertions.
type Trial struct {
	testing.TB
	late   bool // a cancellation was confirmed too late, or not at all
	failed bool // an assertion failed, while late was false
}

var _ testing.TB = (*Trial)(nil)

// Confirmed runs a test of statements that are cancelled, up to five times. pgprod gives the server half a second to confirm
// a cancellation, and then closes the connection; what try asserts about the connection is then wrong. On a busy machine
// that may happen now and then. So try runs its statements by Trial.Cut, which notices a late confirmation: what fails in
// such an attempt doesn't count, and another one is made. If all five are late the test fails.
func Confirmed(t testing.TB, try func(*Trial)) {
	t.Helper()
	for range 5 {
		trial, done := &Trial{TB: t}, make(chan struct{})
		go func() { // in a goroutine of its own, which FailNow can end; it ends with try
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

// Cut calls do, which runs a statement that is cancelled after limit, and returns its error.
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

// FailNow fails the test, unless the server was late, and ends the attempt.
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
