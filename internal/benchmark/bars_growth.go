package main

import (
	"fmt"
	"math"
)

// growthBars ask whether a query's cost and the memory stay the same as things get more.
func (r *report) growthBars() []bar {
	return []bar{
		r.flatBar("from a limit of 10 connections to 1 000", "pool/10", "pool/1000"),
		r.flatBar("from 1 text to 100 000", "texts/1", "texts/100000"),
		r.memoryBar(),
	}
}

// flatBar compares the ratios to hand-tuned pgx, not the costs: pgx keeps 512 texts prepared, so that more of them cost
// two round trips more with any driver on top of it.
func (r *report) flatBar(what, few, many string) bar {
	b := bar{what: what + ": CPU ÷ " + base + "'s flat (±10 %)"}
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

// memoryBar asks for a plateau: the second half of the texts may leave no more than a trifle.
func (r *report) memoryBar() bar {
	const trifle = 256 << 10
	b := bar{what: "memory after distinct texts, all sampled: the second half adds less than 256 KiB"}
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
