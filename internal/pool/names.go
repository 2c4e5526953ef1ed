package pool

import (
	"strconv"
	"sync"
)

// names are the names of all open pools of the process. Two pools with the same name could not be told apart in metrics.
var names = struct {
	sync.Mutex // guards used
	used       map[string]bool
}{used: map[string]bool{}}

// reserveName returns name, or name#2, name#3, … if that is taken, and reserves what it returns. New calls it.
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

// releaseName gives back a name that reserveName has returned. Close calls it, and New if it fails.
func releaseName(name string) {
	names.Lock()
	defer names.Unlock()
	delete(names.used, name)
}
