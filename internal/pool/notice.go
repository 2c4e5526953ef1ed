package pool

import (
	"context"
	"log/slog"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/instruments"
)

// noticed is pgx's OnNotice. pgx calls it while it reads what the server sends, in the goroutine that uses the
// connection, which holds no lock of ours then. It is the only place where notices are looked at.
func (c *conn) noticed(n *pgconn.Notice) {
	if n.Routine == "SyncRepWaitForLSN" {
		c.unconfirmed = (*pgconn.PgError)(n)
	} else if isWarning(n) {
		c.warned(n)
	}
	if handler := c.pool.hooks.Notice; handler != nil {
		handler(n)
	}
}

// isWarning reports whether a notice is of severity WARNING. Servers before 9.6, and some that only speak PostgreSQL's
// protocol, have no severity that isn't translated.
func isWarning(n *pgconn.Notice) bool {
	return n.SeverityUnlocalized == "WARNING" || n.SeverityUnlocalized == "" && n.Severity == "WARNING"
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
