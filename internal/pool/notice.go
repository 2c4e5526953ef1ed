package pool

import (
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/diary"
	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/pgerror"
)

// noticed is pgx's OnNotice. pgx calls it while it reads what the server sends, in the goroutine that uses the
// connection, which holds no lock of ours then. It is the only place where notices are looked at.
func (c *conn) noticed(n *pgconn.Notice) {
	if pgerror.NotReplicated(n) {
		c.unconfirmed = (*pgconn.PgError)(n)
	} else if pgerror.IsWarning(n) {
		c.warned(n)
	}
	if handler := c.pool.hooks.Notice; handler != nil {
		handler(n)
	}
}

// warned tells the diary of a warning, and of the statement that it came with.
func (c *conn) warned(n *pgconn.Notice) {
	var during diary.Named // nil: the connection is being made, or asked whether it lives
	sql := ""
	if c.depth > 0 {
		during, sql = c, c.callersText()
	}
	c.pool.diary.Warned(n.Code, during, func() string { return instruments.Describe((*pgconn.PgError)(n), sql) })
}
