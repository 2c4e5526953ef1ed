package main

import "fmt"

// remoteGoals are about a server that is oneWay away: what counts there are round trips.
func (r *report) remoteGoals() []goal {
	return []goal{
		r.waitGoal("remote/tx1", 0.70),
		r.waitGoal("remote/tx5", 0.88),
		r.waitGoal("remote/gorm", 0.70),
		r.busyGoal(),
		r.settingsGoal(),
		r.settingsTripsGoal(),
		r.sessionGoal(),
		r.dialsGoal(),
	}
}

// waitGoal compares how long a caller waits with base.
func (r *report) waitGoal(workload string, most float64) goal {
	b := goal{what: fmt.Sprintf("%s: p50 ≤ %.2f × %s", workload, most, base)}
	if mine, other, ok := r.pair(workload, base); ok {
		x, y := mine.spread(p50).median, other.spread(p50).median
		b.run, b.met, b.figure = true, x <= most*y, fmt.Sprintf("%.3f (%.2f ms ÷ %.2f ms)", x/y, x, y)
	}
	return b
}

func (r *report) busyGoal() goal {
	const least = 1.45
	b := goal{what: fmt.Sprintf("remote/busy: transactions per second ≥ %v × %s", least, base)}
	if mine, other, ok := r.pair("remote/busy", base); ok {
		s := mine.against(other, throughput, ratio)
		b.run, b.met, b.figure = true, s.median >= least, fmt.Sprintf("%.3f (%.3f–%.3f)", s.median, s.q1, s.q3)
	}
	return b
}

// beside finds pgprod in two workloads that take turns.
func (r *report) beside(workload, other string) (with, without *series, ok bool) {
	with, without = r.find(workload, "pgprod", none), r.find(other, "pgprod", none)
	return with, without, with != nil && without != nil
}

func (r *report) settingsGoal() goal {
	const most = 1.05
	b := goal{what: fmt.Sprintf("remote/settings: p50 ≤ %v × the same without settings", most)}
	if with, without, ok := r.beside("remote/settings", "remote/query"); ok {
		x, y := with.spread(p50).median, without.spread(p50).median
		b.run, b.met, b.figure = true, x <= most*y, fmt.Sprintf("%.3f (%.2f ms ÷ %.2f ms)", x/y, x, y)
	}
	return b
}

func (r *report) settingsTripsGoal() goal {
	b := goal{what: "remote/settings: no more round trips than without settings"}
	if with, without, ok := r.beside("remote/settings", "remote/query"); ok {
		b.run, b.met, b.figure = true, with.trips <= without.trips, fmt.Sprintf("%v, %v", with.trips, without.trips)
	}
	return b
}

// sessionGoal compares means, as a dial now and then would not move the median.
func (r *report) sessionGoal() goal {
	const most = 1.1
	b := goal{what: fmt.Sprintf("remote/session: time ≤ %v × the same without SET", most)}
	if with, without, ok := r.beside("remote/session", "remote/conn"); ok {
		s := with.against(without, timePerOp, ratio)
		b.run, b.met, b.figure = true, s.median <= most, fmt.Sprintf("%.3f (%.3f–%.3f)", s.median, s.q1, s.q3)
	}
	return b
}

func (r *report) dialsGoal() goal {
	b := goal{what: "remote/session: no connection is dialled because of SET"}
	if with, without, ok := r.beside("remote/session", "remote/conn"); ok {
		b.run, b.met = true, with.connects <= without.connects
		b.figure = fmt.Sprintf("%d in all for %d requests; without SET %d", with.connects, with.latency.Count(), without.connects)
	}
	return b
}
