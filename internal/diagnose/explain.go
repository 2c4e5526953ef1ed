package diagnose

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/link"
)

const (
	// planTimeout is how long it may take to ask for a plan, connecting included.
	planTimeout = 3 * time.Second
	// planTime and planLock are the server's limits for it. Whoever wants to lock the table waits for as long as
	// planning takes.
	planTime = time.Second
	planLock = 100 * time.Millisecond
)

// errNoPlan is the error if the server's answer is no plan.
var errNoPlan = errors.New("pgprod: the server's answer to EXPLAIN is no plan")

// explain asks the server at a place for the plan of a query. refused is true if
// the server has refused the question, which says nothing of the connection. It takes planTimeout at most, and a second
// more if the server doesn't react.
func (h *Prober) explain(at link.Place, sql string) (answer []byte, refused bool, err error) {
	ctx, cancel := context.WithTimeout(h.Life(), planTimeout)
	defer cancel()
	var refusal error
	err = h.over(ctx, at, func(c *link.Conn) (err error) {
		answer, refusal, err = explain(ctx, c, sql)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	return answer, refusal != nil, refusal
}

// explain asks for the plan of a query, and returns it as JSON, or why the server has refused that. Nothing is executed: the
// transaction is read-only and rolled back, and planning calls immutable and stable functions only.
//
// EXPLAIN takes parameters without values by the simple protocol only, by which a text may be several statements. So
// the text itself is parsed before, by the extended protocol, by which the server refuses all but a single one.
//
// If err isn't nil the connection must be closed.
func explain(ctx context.Context, c *link.Conn, sql string) (answer []byte, refusal, err error) {
	begin := fmt.Sprintf("begin read only; set local statement_timeout = %d; set local lock_timeout = %d",
		planTime.Milliseconds(), planLock.Milliseconds())
	if _, err := c.Ask(ctx, begin, guard.Cancelling); err != nil {
		return nil, nil, err
	}
	answer, refusal = explainInTx(ctx, c, sql)
	_, err = c.Ask(ctx, "rollback", guard.Cancelling)
	return answer, refusal, err
}

// explainInTx is explain within its transaction.
func explainInTx(ctx context.Context, c *link.Conn, sql string) ([]byte, error) {
	if err := c.Parse(ctx, sql, guard.Cancelling); err != nil {
		return nil, err
	}
	results, err := c.Ask(ctx, "explain (generic_plan, verbose, format json) "+sql, guard.Cancelling)
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 1 {
		return nil, errNoPlan
	}
	return results[0].Rows[0][0], nil
}
