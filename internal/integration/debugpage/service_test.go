package debugpage_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/debugpage"
)

// service serves the page, and can be changed and killed while somebody looks.
type service struct {
	url    string
	change atomic.Pointer[func(*activity.Snapshot)]
	down   atomic.Bool
	asked  atomic.Int64
}

func serve(t *testing.T, pools ...func(time.Time) (activity.Snapshot, activity.Health)) *service {
	t.Helper()
	s := &service{}
	page := debugpage.Handler(func() (all []debugpage.Source) {
		for _, p := range pools {
			all = append(all, s.source(p))
		}
		return all
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		if s.down.Load() {
			panic(http.ErrAbortHandler) // the connection breaks
		}
		page.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.url = server.URL + "/debug/pgprod"
	return s
}

func (s *service) source(pool func(time.Time) (activity.Snapshot, activity.Health)) debugpage.Source {
	return debugpage.Source{
		Snapshot: func() activity.Snapshot {
			snapshot, _ := pool(time.Now().UTC())
			if change := s.change.Load(); change != nil {
				(*change)(&snapshot)
			}
			return snapshot
		},
		Health: func(context.Context) activity.Health {
			_, health := pool(time.Now())
			return health
		},
	}
}

// becomes changes what the next snapshots say.
func (s *service) becomes(change func(*activity.Snapshot)) { s.change.Store(&change) }
