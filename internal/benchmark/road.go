package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// oneWay is how far the server is away in the workloads that are remote.
const oneWay = 500 * time.Microsecond

// A road is a proxy that makes the way to the server longer: what either side sends arrives oneWay later, in order. It
// knows nothing of the protocol, so that a write of the client's stays one; a faultproxy delays as well, but passes on
// each message by itself, and sleeps for twice as long as it is told.
type road struct {
	dir             string // of the socket
	listener        net.Listener
	network, target string             // the server's address
	life            context.Context    // ends with the road
	end             context.CancelFunc // ends life
	wg              sync.WaitGroup     // all goroutines
}

// openRoad opens a road to the server of a DSN.
func openRoad(dsn string) (_ *road, err error) {
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	r := &road{}
	r.network, r.target = pgconn.NetworkAddress(config.Host, config.Port)
	if r.dir, err = os.MkdirTemp("", "pgroad"); err != nil {
		return nil, err
	}
	if r.listener, err = net.Listen("unix", filepath.Join(r.dir, filepath.Base(r.target))); err != nil {
		return nil, errors.Join(err, os.RemoveAll(r.dir))
	}
	r.life, r.end = context.WithCancel(context.Background())
	r.wg.Go(r.accept) // ends with close
	return r, nil
}

// through returns a DSN of the server by this road. The port stays, as it is part of the socket's name.
func (r *road) through(dsn string) (string, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return "", err
	}
	query := u.Query()
	query.Set("host", r.dir)
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// close ends all connections.
func (r *road) close() error {
	err := r.listener.Close()
	r.end()
	r.wg.Wait()
	return errors.Join(err, os.RemoveAll(r.dir))
}

func (r *road) accept() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		server, err := new(net.Dialer).DialContext(r.life, r.network, r.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		// Each ends when either side, or the road, has closed the connection.
		r.wg.Go(func() { r.carry(client, server) })
		r.wg.Go(func() { r.carry(server, client) })
	}
}

// A load is what was read at once, and when it is to arrive.
type load struct {
	data []byte
	due  time.Time
}

// carry takes to one side what the other sends, and its end too.
func (r *road) carry(from, to net.Conn) {
	defer to.Close()
	defer from.Close()
	stop := context.AfterFunc(r.life, func() { _ = from.Close() })
	defer stop()
	clock, err := newTimer()
	if err != nil {
		return
	}
	defer clock.close()
	loads := make(chan load, 1024)
	r.wg.Go(func() { fill(loads, from) }) // ends with from; until then loads is emptied below
	for l := range loads {
		err := clock.sleep(time.Until(l.due))
		if err == nil {
			_, err = to.Write(l.data)
		}
		if err != nil {
			_ = from.Close()
		}
	}
}

// fill reads until the end of a connection.
func fill(loads chan<- load, from net.Conn) {
	defer close(loads)
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			loads <- load{bytes.Clone(buffer[:n]), time.Now().Add(oneWay)}
		}
		if err != nil {
			return
		}
	}
}
