package main

import (
	"fmt"
	"math"
)

// growthGoals ask whether a query's cost and the memory stay the same as things get more.
func (r *report) growthGoals() []goal {
	return []goal{
		r.flatGoal("from a limit of 10 connections to 1 000", "pool/10", "pool/1000"),
		r.flatGoal("from 1 text to 100 000", "texts/1", "texts/100000"),
		r.memoryGoal(),
	}
}

// flatGoal compares the ratios to hand-tuned pgx, not the costs: pgx keeps 512 texts prepared, so that more of them cost
// two round trips more with any driver on top of it.
func (r *report) flatGoal(what, few, many string) goal {
	b := goal{what: what + ": CPU ÷ " + base + "'s flat (±10 %)"}
	mineFew, otherFew, ok := r.pair(few, base)
	mineMany, otherMany, ok2 := r.pair(many, base)
	if !ok || !ok2 {
		return b
	}
	x, y := mineFew.against(otherFew, cpuPerOp, ratio).median, mineMany.against(otherMany, cpuPerOp, ratio).median
	b.run, b.met = true, math.Abs(y/x-1) <= 0.1
	b.figure = fmt.Sprintf("%+.1f %% (%.3f, then %.3f)", 100*(y/x-1), x, y)
	return b
}

// memoryGoal asks for a plateau: the second half of the texts may leave no more than a trifle.
func (r *report) memoryGoal() goal {
	const trifle = 256 << 10
	b := goal{what: "memory after distinct texts, all sampled: the second half adds less than 256 KiB"}
	if r.memory == nil {
		return b
	}
	last := len(r.memory.heap) - 1
	b.run, b.met = true, r.memory.heap[last]-r.memory.heap[last-1] < trifle
	for i, heap := range r.memory.heap {
		if i > 0 {
			b.figure += ", "
		}
		b.figure += fmt.Sprintf("%d: %d kB", r.memory.texts[i], heap/1000)
	}
	return b
}
