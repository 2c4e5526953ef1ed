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

// reserveName returns name, or name#2, name#3, … if it is taken. New calls it, and Close gives the name back.
func reserveName(name string) string {
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
