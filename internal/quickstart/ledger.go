package main

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/pgprod/pgprod"
)

// outcome is what the caller of a transfer knows about it.
type outcome byte

const (
	refused      outcome = iota // the caller got an error that says it wasn't done, or has none yet
	acknowledged                // the caller got no error
	unknown                     // the caller got ErrCommitUnknown
)

// ledger numbers the transfers from 1, and keeps what their callers know about them. It is safe for concurrent use.
type ledger struct {
	mu       sync.Mutex // guards outcomes
	outcomes []outcome
}

// next returns the number of the next transfer.
func (l *ledger) next() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outcomes = append(l.outcomes, refused)
	return int64(len(l.outcomes))
}

// book keeps the outcome of a transfer, by the error that its caller got.
func (l *ledger) book(number int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		l.outcomes[number-1] = acknowledged
	case errors.Is(err, pgprod.ErrCommitUnknown):
		l.outcomes[number-1] = unknown
	}
}

// audit has the numbers of transfers, by what the callers know about them and what the database has.
type audit struct {
	acknowledged, refused, unknown int // by outcome
	lost                           int // acknowledged, but not in the database
	doubled                        int // more than once in the database
	ghosts                         int // refused, but in the database
	unknownDone                    int // unknown, and in the database
}

// compare compares the outcomes with times, which says how often each transfer is in the database.
func (l *ledger) compare(times map[int64]int) (a audit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, o := range l.outcomes {
		n := times[int64(i+1)]
		if n > 1 {
			a.doubled++
		}
		switch o {
		case acknowledged:
			a.acknowledged++
			a.lost += count(n == 0)
		case unknown:
			a.unknown++
			a.unknownDone += count(n > 0)
		case refused:
			a.refused++
			a.ghosts += count(n > 0)
		}
	}
	return a
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// err returns an error if callers know something that isn't so: a transfer was lost, doubled, or done although it was
// refused.
func (a audit) err() error {
	if a.lost+a.doubled+a.ghosts == 0 {
		return nil
	}
	return fmt.Errorf("of the transfers %d were lost, %d doubled, and %d took place though their callers got an error",
		a.lost, a.doubled, a.ghosts)
}

// String lists the numbers, for the report.
func (a audit) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s acknowledged: %d lost, %d doubled\n", thousands(int64(a.acknowledged)), a.lost, a.doubled)
	fmt.Fprintf(&b, "%s refused with an error: %d took place all the same\n", thousands(int64(a.refused)), a.ghosts)
	if a.unknown > 0 {
		fmt.Fprintf(&b, "%s unknown (ErrCommitUnknown): %d took place\n", thousands(int64(a.unknown)), a.unknownDone)
	}
	return b.String()
}
