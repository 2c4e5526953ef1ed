package guard

// TimerRuns reports whether the timer will fire, and stops it.
func (g *Guard) TimerRuns() bool { return g.timer.Stop() }
