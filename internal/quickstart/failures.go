package main

import (
	"fmt"
	"sync"
)

// failures are the errors that nobody ordered.
type failures struct {
	mu     sync.Mutex // guards what follows
	n      int
	first  []string // the first few different ones
	counts map[string]int
}

const mostTexts = 5

func (f *failures) add(kind string, err error) {
	text := kind + ": " + oneLine(err)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	if f.counts[text] == 0 {
		if len(f.first) == mostTexts {
			return
		}
		f.first = append(f.first, text)
	}
	if f.counts == nil {
		f.counts = map[string]int{}
	}
	f.counts[text]++
}

func (f *failures) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// String lists them, one a line.
func (f *failures) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n == 0 {
		return "none but those\n"
	}
	text, shown := "", 0
	for _, t := range f.first {
		text += fmt.Sprintf("%s× %s\n", thousands(int64(f.counts[t])), t)
		shown += f.counts[t]
	}
	if f.n > shown {
		text += fmt.Sprintf("%s more\n", thousands(int64(f.n-shown)))
	}
	return text
}
