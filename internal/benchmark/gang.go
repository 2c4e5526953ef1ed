package main

import (
	"context"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/pgprod/pgprod/internal/histogram"
)

// A gang are the workers of a workload. All peers are worked on by the same, one after another, so that the stacks that
// one has made to grow serve the next.
type gang struct {
	workers []chan block
	wg      sync.WaitGroup
	latency []*histogram.Histogram // by worker
	ops     []int                  // by worker, of the last block
	errs    []error
}

// A block is a peer's turn.
type block struct {
	op       op
	requests [][]context.Context // by worker, taken in turn
	first    []int               // by worker: the number of its first operation
	pause    time.Duration
	until    time.Time // each worker ends after the operation in which this comes, and has done at least one
}

// sample is what a block came to.
type sample struct {
	ops            int
	elapsed, cpu   time.Duration
	mallocs, bytes uint64
	connects       int // in a storm
}

// plus adds up two turns of a round; a storm has but one.
func (s sample) plus(o sample) sample {
	return sample{
		ops: s.ops + o.ops, elapsed: s.elapsed + o.elapsed, cpu: s.cpu + o.cpu,
		mallocs: s.mallocs + o.mallocs, bytes: s.bytes + o.bytes,
	}
}

func newGang(workers int) *gang {
	g := &gang{ops: make([]int, workers), errs: make([]error, workers)}
	for worker := range workers {
		g.latency = append(g.latency, newLatencies())
		blocks := make(chan block)
		g.workers = append(g.workers, blocks)
		go func() { // ends with close
			for b := range blocks {
				g.ops[worker], g.errs[worker] = b.work(worker, g.latency[worker])
				g.wg.Done()
			}
		}()
	}
	return g
}

// work is one worker's part of a block.
func (b block) work(worker int, latency *histogram.Histogram) (n int, err error) {
	requests := b.requests[worker]
	begin := time.Now()
	for i := b.first[worker]; ; i++ {
		if err := b.op(requests[i%len(requests)], worker, i); err != nil {
			return n, err
		}
		end := time.Now()
		latency.Record(end.Sub(begin))
		n++
		if !end.Before(b.until) {
			return n, nil
		}
		if b.pause > 0 {
			time.Sleep(b.pause)
			end = time.Now()
		}
		begin = end
	}
}

// run works for a while and returns what that took, of this whole process. It moves the latencies to latency and counts
// first on.
func (g *gang) run(b block, length time.Duration, latency *histogram.Histogram) (sample, error) {
	var before usage
	before.lookAtHeap()
	before.cpu, before.at = processTime(), time.Now()
	b.until = before.at.Add(length)
	g.wg.Add(len(g.workers))
	for _, w := range g.workers {
		w <- b
	}
	g.wg.Wait()
	after := usage{cpu: processTime(), at: time.Now()} // before the look at the heap, which takes time itself
	after.lookAtHeap()
	s := after.since(before)
	for worker := range g.workers {
		s.ops += g.ops[worker]
		b.first[worker] += g.ops[worker]
		latency.Add(g.latency[worker])
		g.latency[worker].Reset()
		if err := g.errs[worker]; err != nil {
			return s, err
		}
	}
	return s, nil
}

func (g *gang) close() {
	for _, w := range g.workers {
		close(w)
	}
}

// usage is what this process has used so far.
type usage struct {
	at             time.Time
	cpu            time.Duration
	mallocs, bytes uint64
}

func (u *usage) lookAtHeap() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.mallocs, u.bytes = m.Mallocs, m.TotalAlloc
}

func (u usage) since(before usage) sample {
	return sample{
		elapsed: u.at.Sub(before.at), cpu: u.cpu - before.cpu,
		mallocs: u.mallocs - before.mallocs, bytes: u.bytes - before.bytes,
	}
}

// processTime is the CPU time of this process, the kernel's share and the garbage collector's included.
func processTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0 // never happens to RUSAGE_SELF
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
