package sqlsummary

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
)

// Limits bound a cache.
type Limits struct {
	// Entries is how many texts are kept. Default 1024.
	Entries int
	// TextBytes is the longest text that is kept; longer ones are parsed each time. Default 4096.
	TextBytes int
	// Summaries is how many distinct summaries there may ever be, kept or not; see Cache. Default 1000.
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

// Entry is what a cache has on a text. It doesn't change.
type Entry[T any] struct {
	Summary
	// Value is what the cache's build made of the summary.
	Value T
}

// Cache remembers the summaries of texts, each with a value built from it. It is safe for concurrent use.
//
// A hit takes no lock and allocates nothing. The entries are a fixed number of hash buckets, each a list that readers walk
// while writers, under a mutex, add and remove nodes. Once full, the cache evicts by the clock algorithm: of the entries
// not asked for since the hand last passed, the first. The memory is bounded by Entries × TextBytes, about three times
// that at worst (the text, and a sanitised text, which is longer where it's all digits).
//
// The summary names spans and is an attribute of metrics, each value a time series for ever. Therefore a cache gives no
// more than Limits.Summaries different ones, with their operation and collection: later ones become "SELECT _OTHER", the
// first operation, in capitals and as one of a fixed set, and _OTHER, without a collection. The text stays, as it's on
// spans only.
type Cache[T any] struct {
	limits Limits
	build  func(Summary) T
	seed   maphash.Seed
	// buckets has a power of two of lists; a node is in the one for its hash.
	buckets []atomic.Pointer[node[T]]

	mu        sync.Mutex // guards the fields below and all changes to the buckets
	ring      []*node[T] // all nodes, in no order
	hand      int
	summaries map[series]struct{}
}

// series is what of a summary is in metrics. The same words may be other operations and collections.
type series struct{ summary, operation, collection string }

// node is an entry of a bucket's list. Readers may still stand on a node that was removed; its next leads on.
type node[T any] struct {
	hash  uint64
	text  string
	entry Entry[T]
	asked atomic.Bool // since the clock's hand passed
	next  atomic.Pointer[node[T]]
}

// NewCache makes an empty cache. Goroutines that ask for the same new text at the same time may each call build; all but
// one result is dropped.
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
		summaries: map[series]struct{}{},
	}
}

// Get is the entry for the text, which it makes if need be.
func (c *Cache[T]) Get(sql string) *Entry[T] {
	if len(sql) > c.limits.TextBytes {
		return c.parse(sql)
	}
	hash := maphash.String(c.seed, sql)
	if n := c.find(hash, sql); n != nil {
		if !n.asked.Load() { // a store would take the cache line from the other readers
			n.asked.Store(true)
		}
		return &n.entry
	}
	text := strings.Clone(sql) // the caller's may be a piece of something large
	n := &node[T]{hash: hash, text: text, entry: *c.parse(text)}
	return &c.keep(n).entry
}

// Len is the number of texts kept.
func (c *Cache[T]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.ring)
}

func (c *Cache[T]) bucket(hash uint64) *atomic.Pointer[node[T]] {
	return &c.buckets[hash&uint64(len(c.buckets)-1)]
}

func (c *Cache[T]) find(hash uint64, sql string) *node[T] {
	for n := c.bucket(hash).Load(); n != nil; n = n.next.Load() {
		if n.hash == hash && n.text == sql {
			return n
		}
	}
	return nil
}

// parse makes an entry.
func (c *Cache[T]) parse(sql string) *Entry[T] {
	s := c.limit(Parse(sql))
	return &Entry[T]{Summary: s, Value: c.build(s)}
}

// limit replaces a summary that would be one too many.
func (c *Cache[T]) limit(s Summary) Summary {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := series{s.Summary, s.Operation, s.Collection}
	if _, known := c.summaries[key]; known {
		return s
	}
	if len(c.summaries) < c.limits.Summaries {
		c.summaries[key] = struct{}{}
		return s
	}
	return s.overflow()
}

// keep adds the node, unless the text is known by now, and returns the one to use.
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

// evictLocked moves the hand to a node that can go, and removes that from its bucket.
func (c *Cache[T]) evictLocked() {
	for c.hand = (c.hand + 1) % len(c.ring); c.ring[c.hand].asked.Swap(false); c.hand = (c.hand + 1) % len(c.ring) {
	}
	gone := c.ring[c.hand]
	at := c.bucket(gone.hash)
	for at.Load() != gone {
		at = &at.Load().next
	}
	at.Store(gone.next.Load())
}
