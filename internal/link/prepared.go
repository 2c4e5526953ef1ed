package link

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/jackc/pgx/v5/pgproto3"
)

// cachePrefix is the beginning of the names that pgx's cache gives to prepared statements.
const cachePrefix = "stmtcache_"

// maxUnadopted is how many statements there may be on one connection that were prepared by Warm or Prepare and never executed.
const maxUnadopted = 2 * maxWarm

// An unadopted statement was prepared on the server by Warm or Prepare, under the name that pgx's cache would give it, and is
// not in the cache yet. pgx adopts it at its first execution.
type unadopted struct{ name, query string }

// nameInCache returns the name that pgx's cache gives to the prepared statement of a text.
func nameInCache(query string) string {
	digest := sha256.Sum256([]byte(query))
	return cachePrefix + hex.EncodeToString(digest[:24])
}

// Prepare has the server parse query, and returns the number of its parameters. It is called within Try.
//
// It prepares the statement under the name that pgx's statement cache would give it. At the first execution pgx finds that
// the name is prepared, takes the statement into its cache, an LRU, and needs no round trip for it. A statement that is
// never executed would stay for ever, so the oldest of these are deallocated when there are too many. If pgx changed its
// names, the first execution of each statement would cost one more round trip, and a test of ours would fail.
//
// A batch, which only callers of Raw can send, also puts statements into pgx's cache under these names, and doesn't know
// those that Prepare or Warm has prepared. Therefore, once a batch has run, Prepare uses the unnamed statement, which the server
// forgets with the next one. It does so too where the statement must not be kept. See batchAhead for what happens before a
// batch.
func (c *Conn) Prepare(ctx context.Context, query string) (int, error) {
	name := nameInCache(query)
	p := &c.prepared
	if s := settingsOf(ctx); p.batched || !c.mayCache(query) || s != nil && s.path {
		name = ""
	}
	p.already = false
	if err := c.board(ctx, query, extended); err != nil {
		return 0, err
	}
	sd, err := c.pgx.Prepare(ctx, name, query)
	if err = c.getOff(err); err != nil {
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

// releaseUnadopted deallocates the statements that were prepared and not executed, in one round trip. It is called before a
// batch, which would fail because the names are in use. If it fails, the connection is closed.
//
// pgx doesn't trace the closing of statements, but a batch is under way, whose time it is part of.
func (c *Conn) releaseUnadopted(ctx context.Context) {
	all := c.prepared.unadopted
	if len(all) == 0 || c.pg.IsBusy() || c.pg.IsClosed() || ctx.Err() != nil {
		return
	}
	flights := make([][]byte, len(all))
	for i, u := range all {
		flights[i] = flightOf(&pgproto3.Close{ObjectType: 'S', Name: u.name})
	}
	err := c.together(flights, func(i int) error { return c.pgx.Deallocate(ctx, all[i].name) })
	if err != nil {
		c.HangUp()
		return
	}
	c.prepared.unadopted = nil
}

// deallocate closes a prepared statement on the server. pgx doesn't trace that, so the guard's time is started here.
func (c *Conn) deallocate(ctx context.Context, u unadopted) error {
	c.beginUntraced(ctx)
	defer c.guard.End()
	return c.pgx.Deallocate(ctx, u.name)
}

// adopted is called by the tracer when pgx has what a name of its cache stands for, because it is about to execute that. If
// Prepare or Warm has prepared it, pgx has adopted it.
func (c *Conn) adopted(name string) {
	p := &c.prepared
	p.unadopted = slices.DeleteFunc(p.unadopted, func(u unadopted) bool { return u.name == name })
}
