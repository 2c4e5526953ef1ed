package pool

import (
	"strconv"
	"sync"
)

// names are those of the open pools: two with one name would be one in every metric.
var names = struct {
	sync.Mutex // guards used
	used       map[string]bool
}{used: map[string]bool{}}

// ReserveName returns name, or name#2, name#3, … if it is taken. Close of the pool frees it.
func ReserveName(name string) string {
	names.Lock()
	defer names.Unlock()
	unique := name
	for n := 2; names.used[unique]; n++ {
		unique = name + "#" + strconv.Itoa(n)
	}
	names.used[unique] = true
	return unique
}

func releaseName(name string) {
	names.Lock()
	defer names.Unlock()
	delete(names.used, name)
}
