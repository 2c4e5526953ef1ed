// Package clock is the time as pgprod measures it: nanoseconds of the monotonic clock, in one int64 that an atomic can
// hold. Reading it costs half of time.Now.
package clock

import "time"

// started is the origin. It lies a second back, so that zero can stand for "never".
var started = time.Now().Add(-time.Second)

// Now is the time since the program's start, in nanoseconds. It is never zero, and never goes back.
func Now() int64 { return int64(time.Since(started)) }

// Seconds is what telemetry wants to know of a duration between two times.
func Seconds(between int64) float64 { return time.Duration(between).Seconds() }
