package pool

import "sync"

// tasks are goroutines that Close waits for. Each bounds itself. It is safe for concurrent use.
type tasks struct {
	mu    sync.Mutex // guards ended
	ended bool       // wait was called
	all   sync.WaitGroup
}

// run runs f in a goroutine; once wait was called, in the caller's.
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

// begin counts the caller's goroutine among the tasks until it calls all.Done, unless wait was called.
func (t *tasks) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return false
	}
	t.all.Add(1)
	return true
}

// wait returns when all tasks are over; what run is given from now on runs in its caller's goroutine.
func (t *tasks) wait() {
	t.mu.Lock()
	t.ended = true
	t.mu.Unlock()
	t.all.Wait()
}
