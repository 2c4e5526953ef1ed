package pool

import (
	"context"
	"log/slog"

	"github.com/jackc/pgx/v5/pgconn"

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

// warned logs a warning of the server: its caller sees nothing of it, since the statement succeeds.
func (c *conn) warned(n *pgconn.Notice) {
	p := c.pool
	if !p.log().Enabled(context.Background(), slog.LevelWarn) {
		return
	}
	var attrs []slog.Attr
	kind, sql := "warning "+n.Code, ""
	if c.depth > 0 { // else the connection is being made, or asked whether it lives
		summary := c.summaryOf(c.what, c.sql)
		kind, sql = kind+" "+summary, c.callersText()
		attrs = append(attrs, slog.String("summary", summary))
	}
	attrs = append(attrs, slog.String("sqlstate", n.Code),
		slog.String("warning", instruments.Describe((*pgconn.PgError)(n), sql)))
	p.tell(kind, p.line(context.Background(), slog.LevelWarn, "pgprod: the server warns", attrs...))
}
