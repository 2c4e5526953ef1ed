package link

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
)

// uses counts how often texts are executed as prepared statements, so that new connections can prepare those that are used
// most, see Warm. The counts are estimates, so that a statement as a rule costs no more than an addition: one is made when pgx
// prepares a text, and on each connection for every sampleth statement. It is safe for concurrent use.
type uses struct {
	mu    sync.Mutex     // guards what follows; nothing else is locked under it
	of    map[string]int // by text
	added int            // the sum of what was added since the counts were last halved
}

const (
	sample     = 16      // on each connection every so many statements one is counted, for all of them
	maxUses    = 256     // how many texts are counted at most
	halveAfter = 1 << 14 // after so many uses all counts are halved, so that they follow the present
)

// add notes that a text was used n times. If there is no room, the text that was used least makes room.
func (u *uses) add(text string, n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.added += n; u.added >= halveAfter {
		u.halveLocked()
	}
	if _, known := u.of[text]; known {
		u.of[text] += n
		return
	}
	if u.of == nil {
		u.of = map[string]int{}
	}
	if len(u.of) >= maxUses {
		delete(u.of, u.leastLocked())
	}
	u.of[strings.Clone(text)] = n // it may be part of something larger
}

// halveLocked halves all counts, and forgets the texts that have none left.
func (u *uses) halveLocked() {
	u.added = 0
	for text, n := range u.of {
		if u.of[text] = n / 2; n < 2 {
			delete(u.of, text)
		}
	}
}

// leastLocked returns the text that was used least.
func (u *uses) leastLocked() (least string) {
	first := true
	for text, n := range u.of {
		if first || n < u.of[least] {
			least, first = text, false
		}
	}
	return least
}

// most returns the texts that were used most, at most so many, which have at most so many bytes together.
func (u *uses) most(texts, bytes int) (most []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	byUse := func(a, b string) int { return cmp.Or(u.of[b]-u.of[a], strings.Compare(a, b)) }
	for _, text := range slices.SortedFunc(maps.Keys(u.of), byUse) {
		if bytes -= len(text); bytes < 0 || len(most) == texts {
			break
		}
		most = append(most, text)
	}
	return most
}

// forget forgets these texts.
func (u *uses) forget(texts ...string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, text := range texts {
		delete(u.of, text)
	}
}
