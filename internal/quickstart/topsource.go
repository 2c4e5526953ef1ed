package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/debugpage"
	"github.com/pgprod/pgprod/internal/diagnose"
)

const (
	lookTimeout = 5 * time.Second
	mostJSON    = 64 << 20 // bytes of a page
)

// openWatched opens what the mode -top shows: the page at an address, or the server that a DSN names, or the environment if
// the DSN is empty.
func openWatched(target string) (watched, error) {
	if strings.HasPrefix(target, "http://") || strings.HasPrefix(target, "https://") {
		return openPage(target)
	}
	db, err := pgprod.Open(target, pgprod.WithPoolName("top"), pgprod.WithPoolSize(1), pgprod.WithMaxOverflow(0),
		pgprod.WithPoolMin(0), pgprod.WithPreflight(false), pgprod.WithLeakDetection(0), pgprod.WithSlowQuery(0),
		pgprod.WithPoolTimeout(lookTimeout), pgprod.WithCommandTimeout(lookTimeout),
		pgprod.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return nil, err
	}
	return &watchedServer{db}, nil
}

// A watchedPage is a program's live page.
type watchedPage struct {
	address string // with what asks for JSON
	client  *http.Client
}

var _ watched = (*watchedPage)(nil)

// openPage returns the page at an address.
func openPage(address string) (*watchedPage, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return nil, errors.New("-top: the address of the page makes no sense; it is as http://localhost:8080/debug/pgprod")
	}
	query := u.Query()
	query.Set("format", "json")
	u.RawQuery, u.Fragment = query.Encode(), ""
	return &watchedPage{u.String(), &http.Client{Timeout: lookTimeout}}, nil
}

func (w *watchedPage) close() { w.client.CloseIdleConnections() }

// look implements watched.
func (w *watchedPage) look(ctx context.Context) (picture, error) {
	pools, err := w.fetch(ctx)
	if err != nil {
		return nil, err
	}
	var p picture
	for i := range pools {
		p.pool(&pools[i])
	}
	if len(pools) == 0 {
		p.add("The page has no pools.")
	}
	return p, nil
}

// fetch asks the page for its JSON. Its errors don't have the address, in which there may be a password.
func (w *watchedPage) fetch(ctx context.Context) (pools []debugpage.Pool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.address, nil)
	if err != nil {
		return nil, errors.New("the address of the page makes no sense")
	}
	answer, err := w.client.Do(request)
	if failed, ok := errors.AsType[*url.Error](err); ok {
		return nil, fmt.Errorf("the page doesn't answer: %w", failed.Err)
	} else if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if answer.StatusCode != http.StatusOK || kind != "application/json" {
		return nil, fmt.Errorf("what answers there is no live page (status %d, %s): the address is that of pgprod.DebugHandler, "+
			"as http://localhost:8080/debug/pgprod", answer.StatusCode, kind)
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, mostJSON)).Decode(&pools); err != nil {
		return nil, fmt.Errorf("the page's JSON makes no sense: %w", err)
	}
	return pools, nil
}

// A watchedServer is a server, whichever programs use it.
type watchedServer struct{ db *sql.DB }

var _ watched = (*watchedServer)(nil)

func (w *watchedServer) close() { _ = w.db.Close() }

// look implements watched.
func (w *watchedServer) look(ctx context.Context) (p picture, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	err = pgprod.Raw(ctx, w.db, func(conn *pgx.Conn) error {
		server, err := diagnose.Everybody(ctx, conn.PgConn())
		if err == nil {
			p.server(server)
		}
		return err
	})
	return p, err
}
