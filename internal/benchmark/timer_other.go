//go:build !linux

package main

import "time"

// A timer is time.Sleep, which is exact enough where it isn't Linux that waits: kqueue counts in nanoseconds.
type timer struct{}

func newTimer() (timer, error) { return timer{}, nil }

func (timer) sleep(d time.Duration) error {
	time.Sleep(d)
	return nil
}

func (timer) close() {}
