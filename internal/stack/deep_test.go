package stack

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// taken returns the stack of its caller, as something of ours takes it.
func taken() *Deep {
	var d Deep
	d.Take()
	return &d
}

func TestADeepStackBeginsWithTheLineThatCalls(t *testing.T) {
	var d *Deep
	var nested func(int)
	nested = func(n int) {
		if n > 0 {
			nested(n - 1)
			return
		}
		d = taken()
	}
	nested(100)
	frames := d.Frames()
	require.Greater(t, len(frames), 100, "deeper than a Trace")
	assert.Equal(t, frames[0], d.Caller())
	assert.Regexp(t, `^github\.com/pgprod/pgprod/internal/stack\.TestADeepStack.* deep_test\.go:\d+$`, frames[0])

	var none Deep
	assert.Empty(t, none.Frames())
	assert.Empty(t, none.Caller())
}

func TestAFrameOfALibraryIsKnownByItsFile(t *testing.T) {
	for file, library := range map[string]bool{
		"/home/me/go/pkg/mod/gorm.io/gorm@v1.31.0/callbacks/query.go": true,
		"gorm.io/gorm@v1.31.0/callbacks/query.go":                     true, // -trimpath
		"/src/shop/vendor/github.com/jmoiron/sqlx/sqlx.go":            true,
		"/src/shop/cart/cart.go":                                      false,
		"example.com/shop/cart/cart.go":                               false,
		"/usr/local/go/src/net/http/server.go":                        false,
	} {
		assert.Equal(t, library, isLibrary(runtime.Frame{File: file}), file)
	}
}
