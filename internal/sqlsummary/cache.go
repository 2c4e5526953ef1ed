package sqlsummary

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
)

// Limits bound a Cache. 0, and less, means the default.
type Limits struct {
	// Entries is how many texts are kept. Default: 1024.
	Entries int
	// TextBytes is the length in bytes of the longest text that is kept; longer ones are parsed each time. Default: 4096.
	TextBytes int
	// Summaries is how many different summaries a Cache ever returns, see there. Default: 1000.
	Summaries int
}

func (l Limits) withDefaults() Limits {
	l.Entries = defaulted(l.Entries, 1024)
	l.TextBytes = defaulted(l.TextBytes, 4096)
	l.Summaries = defaulted(l.Summaries, 1000)
	return l
}

func defaulted(n, otherwise int) int {
	if n <= 0 {
		return otherwise
	}
	return n
}

// An Entry is what a Cache knows of a text. It doesn't change.
type Entry[T any] struct {
	Summary
	// Value is what the Cache's build function made of the summary.
	Value T
}

// A Cache remembers the summaries of texts, each with a value that is made from it. It is safe for concurrent use.
//
// Finding an entry takes no lock and doesn't allocate. The entries are in a fixed number of hash buckets. Each bucket is a
// list that readers walk while a writer, under a mutex, adds and removes nodes. When the Cache is full it evicts by the
// clock algorithm: a hand goes round, and the first entry goes that wasn't used since the hand was last there. The memory is
// at most about three times Entries × TextBytes: for each text itself, and its sanitised text, which is longer if it is all
// digits.
//
// Each different summary is a time series in metrics that never ends. So a Cache returns at most Limits.Summaries different
// ones. Later ones are shortened to the first operation and _OTHER, as in "SELECT _OTHER". Their Text is not shortened: only
// spans have it.
type Cache[T any] struct {
	limits Limits
	build  func(Summary) T
	seed   maphash.Seed
	// buckets are the heads of the lists. Their number is a power of two, and the lowest bits of a text's hash are the
	// index.
	buckets []atomic.Pointer[node[T]]

	mu        sync.Mutex // guards what follows, and is held for each change of a bucket
	ring      []*node[T] // all nodes, as the clock's hand passes them
	hand      int        // index in ring
	summaries map[string]struct{}
}

// A node is an element of a bucket's list. Its next is kept when it is removed, so that a reader that is there goes on.
type node[T any] struct {
	hash  uint64
	text  string
	entry Entry[T]
	used  atomic.Bool // since the clock's hand was last here
	next  atomic.Pointer[node[T]]
}

// NewCache returns an empty Cache. build makes the Value of an entry; it must be safe for concurrent use. It may be called
// more than once for a text that several goroutines ask for at the same time: one of the results is kept.
func NewCache[T any](limits Limits, build func(Summary) T) *Cache[T] {
	limits = limits.withDefaults()
	size := 1
	for size < limits.Entries {
		size *= 2
	}
	return &Cache[T]{
		limits:    limits,
		build:     build,
		seed:      maphash.MakeSeed(),
		buckets:   make([]atomic.Pointer[node[T]], size),
		summaries: map[string]struct{}{},
	}
}

// Get returns the entry for a text, which is parsed if it isn't in the Cache.
func (c *Cache[T]) Get(sql string) *Entry[T] {
	if len(sql) > c.limits.TextBytes {
		return c.parse(sql)
	}
	hash := maphash.String(c.seed, sql)
	if n := c.find(hash, sql); n != nil {
		if !n.used.Load() { // not each time: a store takes the cache line away from other readers
			n.used.Store(true)
		}
		return &n.entry
	}
	text := strings.Clone(sql) // the caller's may be part of a larger string, which would then be kept
	n := &node[T]{hash: hash, text: text, entry: *c.parse(text)}
	return &c.keep(n).entry
}

// Len is the number of texts kept.
func (c *Cache[T]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.ring)
}

// bucket returns the head of the list for a hash.
func (c *Cache[T]) bucket(hash uint64) *atomic.Pointer[node[T]] {
	return &c.buckets[hash&uint64(len(c.buckets)-1)]
}

// find returns the node of a text; nil: there is none. It takes no lock.
func (c *Cache[T]) find(hash uint64, sql string) *node[T] {
	for n := c.bucket(hash).Load(); n != nil; n = n.next.Load() {
		if n.hash == hash && n.text == sql {
			return n
		}
	}
	return nil
}

// parse makes an entry, which isn't in the Cache yet.
func (c *Cache[T]) parse(sql string) *Entry[T] {
	s := c.limit(Parse(sql))
	return &Entry[T]{Summary: s, Value: c.build(s)}
}

// limit returns s, or s shortened if there are too many different summaries already.
func (c *Cache[T]) limit(s Summary) Summary {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.summaries[s.Summary]; known {
		return s
	}
	if len(c.summaries) < c.limits.Summaries {
		c.summaries[s.Summary] = struct{}{}
		return s
	}
	return s.shortened()
}

// keep adds a node, unless another goroutine has added one with the same text meanwhile. It returns the node that is kept.
func (c *Cache[T]) keep(n *node[T]) *node[T] {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.find(n.hash, n.text); known != nil {
		return known
	}
	if len(c.ring) < c.limits.Entries {
		c.ring = append(c.ring, n)
	} else {
		c.evictLocked()
		c.ring[c.hand] = n
	}
	head := c.bucket(n.hash)
	n.next.Store(head.Load())
	head.Store(n)
	return n
}

// evictLocked moves the hand to the next node that wasn't used, and removes it from its bucket. The caller replaces it in
// ring.
func (c *Cache[T]) evictLocked() {
	for c.hand = (c.hand + 1) % len(c.ring); c.ring[c.hand].used.Swap(false); c.hand = (c.hand + 1) % len(c.ring) {
	}
	gone := c.ring[c.hand]
	at := c.bucket(gone.hash)
	for at.Load() != gone {
		at = &at.Load().next
	}
	at.Store(gone.next.Load())
}
