package link

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// cachePrefix is what the names of statements in pgx's cache begin with.
const cachePrefix = "stmtcache_"

// maxUnadopted bounds the statements that were prepared on one connection and never executed there.
const maxUnadopted = 32

// unadopted is a statement that was prepared and is not in pgx's cache yet.
type unadopted struct{ name, query string }

// Prepare has the server parse query and returns the number of its parameters.
//
// It uses the name under which pgx's statement cache looks for the text, so that the first execution finds the
// statement there and takes it over, without another round trip and into its LRU. What is never executed would stay, so
// the oldest of those go when there are too many. Should pgx change its naming, the first execution of each statement
// costs one more round trip, and a test of ours fails.
//
// Batches, which only callers of Raw can send, put statements into pgx's cache under the same names and know nothing of
// those that are prepared elsewhere: see batchAhead. After one the server is asked without a name, as it is where the
// statement is not to be kept.
func (c *Conn) Prepare(ctx context.Context, query string) (int, error) {
	digest := sha256.Sum256([]byte(query))
	name := cachePrefix + hex.EncodeToString(digest[:24])
	p := &c.prepared
	if p.batched || !c.keeps(query) {
		name = ""
	}
	p.already = false
	sd, err := c.pgx.Prepare(ctx, name, query)
	if err != nil {
		return 0, err
	}
	if p.already || name == "" {
		return len(sd.ParamOIDs), nil
	}
	p.unadopted = append(p.unadopted, unadopted{name: name, query: query})
	for len(p.unadopted) > maxUnadopted && c.deallocate(ctx, p.unadopted[0]) == nil { // if not now, with the next
		p.unadopted = p.unadopted[1:]
	}
	return len(sd.ParamOIDs), nil
}

// batchAhead is called before pgx sends a batch.
func (c *Conn) batchAhead(ctx context.Context) {
	c.prepared.batched = true
	c.releaseUnadopted(ctx)
}

// releaseUnadopted is called before statements go to pgx that aren't ours to look at: a batch would fail on the names
// that are in use, and a query without arguments might adopt one, which can't be told from one that adopts none.
func (c *Conn) releaseUnadopted(ctx context.Context) {
	p := &c.prepared
	if len(p.unadopted) == 0 || c.pg.IsBusy() {
		return
	}
	p.unadopted = slices.DeleteFunc(p.unadopted, func(u unadopted) bool { return c.deallocate(ctx, u) == nil })
}

// deallocate closes a statement on the server. pgx doesn't trace that, so that it is bounded here, unless it happens
// within a statement.
func (c *Conn) deallocate(ctx context.Context, u unadopted) error {
	if c.depth == 0 {
		c.bound()
		defer c.guard.End()
	}
	return c.pgx.Deallocate(ctx, u.name)
}

// adopted is called when pgx executes query through its cache.
func (c *Conn) adopted(query string) {
	p := &c.prepared
	for i, u := range p.unadopted {
		if u.query == query {
			p.unadopted = slices.Delete(p.unadopted, i, i+1)
			return
		}
	}
}
