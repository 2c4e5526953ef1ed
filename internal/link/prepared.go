package link

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// cachePrefix is the beginning of the names that pgx's cache gives to prepared statements.
const cachePrefix = "stmtcache_"

// maxUnadopted is how many statements there may be on one connection that were prepared by Prepare and never executed.
const maxUnadopted = 32

// An unadopted statement was prepared on the server by Prepare, under the name that pgx's cache would give it, and is not in
// the cache yet. pgx adopts it at its first execution.
type unadopted struct{ name, query string }

// Prepare has the server parse query, and returns the number of its parameters. It is called within Try.
//
// It prepares the statement under the name that pgx's statement cache would give it. At the first execution pgx finds that
// the name is prepared, takes the statement into its cache, an LRU, and needs no round trip for it. A statement that is
// never executed would stay for ever, so the oldest of these are deallocated when there are too many. If pgx changed its
// names, the first execution of each statement would cost one more round trip, and a test of ours would fail.
//
// A batch, which only callers of Raw can send, also puts statements into pgx's cache under these names, and doesn't know
// those that Prepare has prepared. Therefore, once a batch has run, Prepare uses the unnamed statement, which the server
// forgets with the next one. It does so too where the statement must not be kept. See batchAhead for what happens before a
// batch.
func (c *Conn) Prepare(ctx context.Context, query string) (int, error) {
	digest := sha256.Sum256([]byte(query))
	name := cachePrefix + hex.EncodeToString(digest[:24])
	p := &c.prepared
	if p.batched || !c.mayCache(query) {
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
	for len(p.unadopted) > maxUnadopted && c.deallocate(ctx, p.unadopted[0]) == nil { // what fails is left for the next call
		p.unadopted = p.unadopted[1:]
	}
	return len(sd.ParamOIDs), nil
}

// batchAhead is called by the tracer before pgx sends a batch.
func (c *Conn) batchAhead(ctx context.Context) {
	c.prepared.batched = true
	c.releaseUnadopted(ctx)
}

// releaseUnadopted deallocates the statements that were prepared and not executed. It is called before a batch and before a
// caller of Raw gets pgx's connection. A batch would fail because the names are in use. And when such a caller sends a query
// without arguments, it can't be seen whether pgx has adopted a statement for it.
func (c *Conn) releaseUnadopted(ctx context.Context) {
	p := &c.prepared
	if len(p.unadopted) == 0 || c.pg.IsBusy() {
		return
	}
	p.unadopted = slices.DeleteFunc(p.unadopted, func(u unadopted) bool { return c.deallocate(ctx, u) == nil })
}

// deallocate closes a prepared statement on the server. pgx doesn't trace that, so the guard's time is started here, unless
// a statement is under way, whose time it is part of.
func (c *Conn) deallocate(ctx context.Context, u unadopted) error {
	if c.depth == 0 {
		c.beginUntraced()
		defer c.guard.End()
	}
	return c.pgx.Deallocate(ctx, u.name)
}

// adopted is called by the tracer when pgx is about to execute query through its cache, by which it adopts the statement if
// that was prepared by Prepare.
func (c *Conn) adopted(query string) {
	p := &c.prepared
	for i, u := range p.unadopted {
		if u.query == query {
			p.unadopted = slices.Delete(p.unadopted, i, i+1)
			return
		}
	}
}
