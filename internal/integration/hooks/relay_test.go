package hooks

import (
	"io"
	"net"
	"sync"
)

// relay copies between two connections until one of them ends, and closes both.
func relay(a, b io.ReadWriteCloser) {
	var once sync.Once
	closeBoth := func() {
		_ = a.Close()
		_ = b.Close()
	}
	var ways sync.WaitGroup
	for _, way := range [][2]io.ReadWriteCloser{{a, b}, {b, a}} {
		ways.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			once.Do(closeBoth)
		})
	}
	ways.Wait()
}

// serve calls handle for each connection of a listener, in a goroutine of its own, until the listener is closed. It returns
// when all are over.
func serve(listener net.Listener, handle func(net.Conn)) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		all.Go(func() { handle(c) })
	}
}
