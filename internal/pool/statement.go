package pool

import (
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
)

// A statement is its text and how many parameters it has: it runs on whatever connection the session has borrowed, and
// pgx prepares it there if need be (an LRU of 512 per connection, statement_cache_capacity in the DSN).
type statement struct {
	s      *session
	query  string
	inputs int // -1: not known without asking the server
}

var (
	_ driver.Stmt             = (*statement)(nil)
	_ driver.StmtExecContext  = (*statement)(nil)
	_ driver.StmtQueryContext = (*statement)(nil)
)

// Close implements driver.Stmt. There is nothing to close on the server: what pgx has prepared is bounded, and serves
// the next statement with the same text.
func (st *statement) Close() error { return nil }

// NumInput implements driver.Stmt.
func (st *statement) NumInput() int { return st.inputs }

// Exec implements driver.Stmt; database/sql calls ExecContext.
func (st *statement) Exec([]driver.Value) (driver.Result, error) {
	return nil, errors.New("pgprod: Stmt.Exec is not supported, use ExecContext")
}

// Query implements driver.Stmt; database/sql calls QueryContext.
func (st *statement) Query([]driver.Value) (driver.Rows, error) {
	return nil, errors.New("pgprod: Stmt.Query is not supported, use QueryContext")
}

// ExecContext implements driver.StmtExecContext.
func (st *statement) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return st.s.ExecContext(ctx, st.query, args)
}

// QueryContext implements driver.StmtQueryContext.
func (st *statement) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return st.s.QueryContext(ctx, st.query, args)
}

// Prepare implements driver.Conn.
func (s *session) Prepare(query string) (driver.Stmt, error) {
	return s.PrepareContext(context.Background(), query)
}

// PrepareContext implements driver.ConnPrepareContext. The server is asked once per text and pool, so that a wrong
// statement fails here; database/sql's preparing the same statement again for another session costs nothing. In the
// protocol modes that prepare nothing (for poolers), nothing is prepared.
func (s *session) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if err := alreadyEnded(ctx); err != nil {
		return nil, err // where the server isn't asked nobody else says so
	}
	if s.pool.cfg.Conn.DefaultQueryExecMode != pgx.QueryExecModeCacheStatement || query == "" {
		return &statement{s: s, query: query, inputs: -1}, nil
	}
	if n, ok := s.pool.counts.get(query); ok {
		return &statement{s: s, query: query, inputs: n}, nil
	}
	text, err := s.text(ctx, query)
	if err != nil {
		return nil, err
	}
	n := 0
	err = s.run(ctx, false, func(c *conn) (err error) {
		n, err = c.prepare(ctx, text)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(query) < longText {
		s.pool.counts.put(query, n)
	}
	return &statement{s: s, query: query, inputs: n}, nil
}

// cachePrefix is what the names of statements in pgx's cache begin with.
const cachePrefix = "stmtcache_"

// maxUnadopted bounds the statements that were prepared on one connection and never executed there.
const maxUnadopted = 32

// prepare has the server parse query and returns the number of its parameters.
//
// It uses the name under which pgx's statement cache looks for the text, so that the first execution finds the
// statement there and takes it over, without another round trip and into its LRU. What is never executed would stay, so
// the oldest of those go when there are too many. Should pgx change its naming, the first execution of each statement
// costs one more round trip, and a test of ours fails.
//
// Batches, which only callers of Raw can send, put statements into pgx's cache under the same names and know nothing of
// those that are prepared elsewhere: see batchAhead. After one the server is asked without a name, as it is where the
// statement is not to be kept.
func (c *conn) prepare(ctx context.Context, query string) (int, error) {
	digest := sha256.Sum256([]byte(query))
	name := cachePrefix + hex.EncodeToString(digest[:24])
	if c.batched || !c.keeps(query) {
		name = ""
	}
	c.alreadyPrepared = false
	sd, err := c.pgx.Prepare(ctx, name, query)
	if err != nil {
		return 0, err
	}
	if c.alreadyPrepared || name == "" {
		return len(sd.ParamOIDs), nil
	}
	c.unadopted = append(c.unadopted, unadopted{name: name, query: query})
	for len(c.unadopted) > maxUnadopted && c.deallocate(ctx, c.unadopted[0]) == nil { // if not now, with the next
		c.unadopted = c.unadopted[1:]
	}
	return len(sd.ParamOIDs), nil
}

// unadopted is a statement that was prepared and is not in pgx's cache yet.
type unadopted struct{ name, query string }

// batchAhead is called before pgx sends a batch.
func (c *conn) batchAhead(ctx context.Context) {
	c.batched = true
	c.releaseUnadopted(ctx)
}

// releaseUnadopted is called before statements go to pgx that aren't ours to look at: a batch would fail on the names
// that are in use, and a query without arguments might adopt one, which can't be told from one that adopts none.
func (c *conn) releaseUnadopted(ctx context.Context) {
	if len(c.unadopted) == 0 || c.pg.IsBusy() {
		return
	}
	c.unadopted = slices.DeleteFunc(c.unadopted, func(u unadopted) bool { return c.deallocate(ctx, u) == nil })
}

// deallocate is bounded as statements are, of which pgx doesn't count it as one.
func (c *conn) deallocate(ctx context.Context, u unadopted) error {
	if c.depth == 0 {
		c.bound()
		defer c.guard.End()
	}
	return c.pgx.Deallocate(ctx, u.name)
}

// adopted is called when pgx executes query through its cache.
func (c *conn) adopted(query string) {
	for i, u := range c.unadopted {
		if u.query == query {
			c.unadopted = slices.Delete(c.unadopted, i, i+1)
			return
		}
	}
}

// parameterCounts remembers how many parameters a text has, which depends on nothing else. It is safe for concurrent
// use.
type parameterCounts struct {
	mu sync.RWMutex // guards m
	m  map[string]int
}

// maxCounts bounds parameterCounts. Who prepares more texts than that pays a round trip for some of them.
const maxCounts = 4096

func (p *parameterCounts) get(query string) (int, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	n, ok := p.m[query]
	return n, ok
}

func (p *parameterCounts) put(query string, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m == nil {
		p.m = map[string]int{}
	}
	if len(p.m) >= maxCounts {
		for old := range p.m {
			delete(p.m, old) // any
			break
		}
	}
	p.m[query] = n
}
