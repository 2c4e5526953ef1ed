package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"time"

	"github.com/pgprod/pgprod"
)

// site is the web server of the mode -addr.
type site struct {
	addr   string // where it listens
	server *http.Server
	done   chan struct{} // closed when it has ended
}

// serve starts a site that serves the status of a load. Close it.
func serve(addr string, l *load) (*site, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &site{
		addr:   listener.Addr().String(),
		server: &http.Server{Handler: handler(l), ReadHeaderTimeout: 5 * time.Second},
		done:   make(chan struct{}),
	}
	go func() { // ended by close
		defer close(s.done)
		_ = s.server.Serve(listener)
	}()
	return s, nil
}

// close ends the site, after the requests under way, within three seconds.
func (s *site) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if s.server.Shutdown(ctx) != nil {
		_ = s.server.Close()
	}
	<-s.done
}

// handler answers GET / with the report and GET /status with pgprod.Status as JSON. It also has the handlers that a service
// would mount: probes and the live page.
func handler(l *load) http.Handler {
	mux := http.NewServeMux()
	health := pgprod.HealthHandler(l.pool.DB)
	mux.Handle("/readyz", health)
	mux.Handle("/livez", health)
	mux.Handle("/debug/pgprod", pgprod.DebugHandler(l.pool.DB))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		text, err := l.report()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(text))
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		status, err := l.pool.status()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		_ = encoder.Encode(status)
	})
	return mux
}
