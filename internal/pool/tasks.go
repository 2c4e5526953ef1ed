package pool

import "sync"

// tasks are goroutines that Close waits for: pings, goodbyes to the server, sweeps, health checks, the preflight and the
// like. Each of them ends by itself, within a limit of its own or with the pool's life. It is safe for concurrent use.
type tasks struct {
	mu    sync.Mutex // guards ended
	ended bool       // wait was called
	all   sync.WaitGroup
}

// run starts a goroutine that calls f and ends when f returns. Once wait was called, run calls f itself and returns after
// it.
func (t *tasks) run(f func()) {
	if !t.begin() {
		f()
		return
	}
	go func() {
		defer t.all.Done()
		f()
	}()
}

// begin makes the caller's goroutine one of the tasks until it calls all.Done. It reports false, and does nothing, once wait
// was called.
func (t *tasks) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return false
	}
	t.all.Add(1)
	return true
}

// wait returns when all tasks are over. From now on no goroutine is started: run calls what it is given.
func (t *tasks) wait() {
	t.mu.Lock()
	t.ended = true
	t.mu.Unlock()
	t.all.Wait()
}
