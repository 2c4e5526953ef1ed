package guard

// TimerRuns reports whether the timer will fire, and stops it.
func (g *Guard) TimerRuns() bool { return g.timer.Stop() }

// Fire does what the timer does when it fires.
func (g *Guard) Fire() { g.fire() }
