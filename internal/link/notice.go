package link

import (
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/pgerror"
)

// noticed is pgx's OnNotice. pgx calls it while it reads what the server sends, in the goroutine that uses the
// connection, which holds no lock of ours then. It is the only place where notices are looked at.
func (c *Conn) noticed(n *pgconn.Notice) {
	if pgerror.NotReplicated(n) {
		c.stmt.outcome.unconfirmed = (*pgconn.PgError)(n)
	} else if pgerror.IsWarning(n) {
		var during *Statement // else the connection is being made, or asked whether it lives
		if c.depth > 0 {
			during = &c.stmt
		}
		c.observer.Warned(n, during)
	}
	if handler := c.dialer.hooks.Notice; handler != nil {
		handler(n)
	}
}
