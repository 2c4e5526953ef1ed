package link

import (
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/pgerror"
)

// noticed is called by pgx for each notice of the server, while it reads what the server sends, in the goroutine that uses
// the connection. No lock of ours is held then, so that the application's handler may be called.
func (c *Conn) noticed(n *pgconn.Notice) {
	if pgerror.NotReplicated(n) {
		c.stmt.outcome.unconfirmed = (*pgconn.PgError)(n)
	} else if pgerror.IsWarning(n) {
		var during *Statement // nil: the connection is being made, or pinged
		if c.depth > 0 {
			during = &c.stmt
		}
		c.observer.Warned(n, during)
	}
	if handler := c.dialer.hooks.Notice; handler != nil {
		handler(n)
	}
}
