package link

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/pgerror"
)

const (
	maxWarm   = 32          // how many statements a new connection prepares at most
	warmBytes = 24 << 10    // how long their texts are together at most, see wire.Tap.SendAhead
	warmLimit = time.Second // how long that may take
)

// warms reports whether it is of use that new connections prepare what is used most: pgx keeps prepared statements, and the
// same text comes again, which it may not with the tags of package sqlcomment.
func warms(cfg *pgx.ConnConfig, hooks Hooks) bool {
	return cfg.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement && cfg.StatementCacheCapacity > 0 && !hooks.Tagged
}

// noteUse is called when a query has succeeded. Of most it only counts that there was one.
func (c *Conn) noteUse() {
	p, s := &c.prepared, &c.stmt
	p.queries++
	n := 1
	switch {
	case s.plan.anew:
	case p.queries%sample == 0:
		n = sample
	default:
		return
	}
	if c.dialer.warms && len(s.SQL) < longText && takesCache(s.args) {
		c.dialer.uses.add(s.SQL, n)
	}
}

// Warm has a new connection prepare the statements that the pool's connections use most, all in one round trip, so that its
// first borrowers don't wait for that. A text that can't be prepared any more is left out. If Warm returns an error, the
// connection is closed.
//
// The statements are prepared as Prepare does it. They aren't Statements: nobody asked for them, so they have no span, and
// their errors concern nobody.
func (c *Conn) Warm(ctx context.Context) error {
	texts := c.dialer.uses.most(min(maxWarm, c.dialer.cfg.Conn.StatementCacheCapacity), warmBytes)
	if len(texts) == 0 {
		return nil
	}
	c.guard.Begin(clock.Now(), 0, guard.HangingUp)
	defer c.guard.End()
	c.prepared.warming = true
	defer func() { c.prepared.warming = false }()
	_ = c.pg.Conn().SetDeadline(time.Now().Add(warmLimit))
	if err := c.warm(ctx, texts); err != nil {
		c.dialer.uses.forget(texts...) // or the next connection might fail as well
		c.HangUp()
		return fmt.Errorf("preparing the statements that are used most: %w", err)
	}
	_ = c.pg.Conn().SetDeadline(time.Time{})
	c.heard.Store(clock.Now())
	return nil
}

// warm prepares texts. Its error is the connection's.
func (c *Conn) warm(ctx context.Context, texts []string) error {
	all := make([]unadopted, len(texts))
	flights := make([][]byte, len(texts))
	for i, text := range texts {
		all[i] = unadopted{name: nameInCache(text), query: text}
		flights[i] = flightOf(
			&pgproto3.Parse{Name: all[i].name, Query: text},
			&pgproto3.Describe{ObjectType: 'S', Name: all[i].name})
	}
	c.prepared.nonEmpty = true
	return c.together(flights, func(i int) error {
		_, err := c.pgx.Prepare(ctx, all[i].name, all[i].query)
		switch {
		case err == nil:
			c.prepared.unadopted = append(c.prepared.unadopted, all[i])
		case pgerror.From(err) != nil && !c.pg.IsClosed(): // a table has gone, or a right
			c.dialer.uses.forget(all[i].query)
		default:
			return err
		}
		return nil
	})
}

// together sends flights in one write, and then calls do for each of them, which makes pgx write the same and read the answer.
// It costs one round trip. After an error of do the connection is of no use any more.
func (c *Conn) together(flights [][]byte, do func(i int) error) error {
	if err := c.tap.SendAhead(flights); err != nil {
		return err
	}
	for i := range flights {
		if err := do(i); err != nil {
			return err
		}
	}
	if n := c.tap.SentAhead(); n > 0 {
		return fmt.Errorf("pgprod: pgx has not written %d of %d flights that were sent ahead for it", n, len(flights))
	}
	return nil
}

// flightOf returns messages and a Sync as they are sent.
func flightOf(messages ...pgproto3.FrontendMessage) []byte {
	return encode(nil, append(messages, &pgproto3.Sync{})...)
}
