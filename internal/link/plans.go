package link

import (
	"context"
	"database/sql/driver"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/sqlsummary"
)

// unsettled is how long the names in statements may mean something else than when pgx prepared them, because a
// statement has changed the schema or search_path. So long statements go past pgx's cache, in both directions: a
// statement that it has would be refused, which ends a transaction, or read the wrong table; one that it gets would be
// wrong afterwards.
type unsettled uint8

const (
	settled       unsettled = iota
	inTransaction           // until the transaction ends
	inSession               // until the connection is given back
)

// prepared is what a connection knows of what was prepared on it, and whether that is up to date.
type prepared struct {
	unsettled unsettled
	altered   bool   // the transaction has changed the schema
	schema    uint64 // the dialer's, when nothing was prepared yet
	any       bool   // something was prepared since then
	named     bool   // by a caller of Raw, under a name of its own
	already   bool   // pgx said of the last prepare that the statement had been there
	batched   bool   // a batch ran: pgx's cache holds what Prepare doesn't know of

	unadopted []unadopted
	harmless  [16]string // texts that change nothing of what names mean, by their length
}

// longText is the length from which a text isn't kept: the server needs about 40 times as much memory for what it has
// prepared, on each connection.
const longText = 8 << 10

// describedTexts is how many descriptions of long texts pgx keeps for a connection, in place of the statements.
const describedTexts = 16

// bypass returns a statement's arguments, with another way to send it in front of them where it must not go through
// pgx's cache of prepared statements. Parameters and results are the same in each way. One that the caller has chosen
// comes behind it, and counts.
func (c *Conn) bypass(query string, args []driver.NamedValue) []driver.NamedValue {
	if c.keeps(query) {
		return args
	}
	mode := pgx.QueryExecModeCacheDescribe
	if c.prepared.unsettled != settled && c.pg.TxStatus() != 'I' {
		mode = pgx.QueryExecModeDescribeExec
	}
	return append([]driver.NamedValue{{Value: mode}}, args...)
}

// keeps reports whether a statement may go through that cache, or whatever the pool's way to send statements has in its
// place.
//
// Where it may not, it is parsed with each execution, and the server keeps nothing of it. Inside a transaction after a
// change it is described anew before, in a round trip of its own; elsewhere by what pgx remembers, since behind a
// pooler the statement without a name might be another client's by the second round trip.
func (c *Conn) keeps(query string) bool {
	mode := c.dialer.cfg.Conn.DefaultQueryExecMode
	if c.prepared.unsettled == settled {
		return len(query) < longText || mode != pgx.QueryExecModeCacheStatement || c.dialer.cfg.Conn.DescriptionCacheCapacity == 0
	}
	return !keeps(mode)
}

// keeps reports whether pgx keeps what the server says of a statement that is sent in this way.
func keeps(mode pgx.QueryExecMode) bool {
	return mode == pgx.QueryExecModeCacheStatement || mode == pgx.QueryExecModeCacheDescribe
}

// settle is called when a query has ended, and notes what it has changed for others. Most texts are known to change
// nothing.
func (c *Conn) settle(tag, sql string, args []any) {
	if known := &c.prepared.harmless[len(sql)%len(c.prepared.harmless)]; *known != sql {
		changed := mayChange(tag, sql) && c.noteChanges(sql, args)
		if !changed && tag != "" && len(sql) < longText {
			*known = sql
		}
	}
	if c.pg.TxStatus() != 'I' {
		return
	}
	if c.prepared.unsettled == inTransaction {
		c.prepared.unsettled = settled
	}
	if c.prepared.altered {
		c.prepared.altered = false
		c.dialer.schema.Add(1)
	}
}

// mayChange reports whether a text is worth a closer look, as few are, by what the server says of its last statement.
func mayChange(tag, sql string) bool {
	word, _, _ := strings.Cut(tag, " ")
	switch word {
	case "CREATE", "ALTER", "DROP", "DO", "CALL", "DISCARD", "IMPORT", "SET", "RESET":
		return true
	case "SELECT": // which the tag of CREATE TABLE AS is too
		return !isOne(sql) || beginsWithCreate(sql) || mentionsSetConfig(sql) ||
			strings.Contains(sql, "into") || strings.Contains(sql, "INTO")
	}
	return !isOne(sql)
}

// mentionsSetConfig looks for the name of that function by its underscore, which is rarer than a letter.
func mentionsSetConfig(sql string) bool {
	const before, after = "set", "_config"
	for rest := sql; ; {
		i := strings.IndexByte(rest, '_')
		if i < 0 {
			return false
		}
		if i >= len(before) && len(rest) >= i+len(after) && strings.EqualFold(rest[i-len(before):i+len(after)], before+after) {
			return true
		}
		rest = rest[i+1:]
	}
}

// beginsWithCreate looks for the word behind comments, too.
func beginsWithCreate(sql string) bool {
	sql = opening(sql)
	if sql == "" || sql[0] >= 'A' && sql[0]|0x20 != 'c' {
		return false
	}
	first, _ := sqlsummary.FirstWords(sql)
	return strings.EqualFold(first, "create")
}

// noteChanges notes what the statements of a text have changed that had these arguments, and reports whether the text
// can change anything.
func (c *Conn) noteChanges(sql string, args []any) (can bool) {
	for one := range sqlsummary.Split(sql) {
		change := sqlsummary.ChangeOf(one)
		can = can || change != 0
		c.noteChange(change, args)
	}
	return can
}

func (c *Conn) noteChange(change sqlsummary.Change, args []any) {
	if change&sqlsummary.PathByArgument != 0 && nameThePath(args) {
		change |= sqlsummary.Path
	}
	const names = sqlsummary.Schema | sqlsummary.Unseen | sqlsummary.Path | sqlsummary.Temporary
	switch {
	case change&names == 0:
	case change&sqlsummary.Session != 0:
		c.prepared.unsettled = inSession
	default:
		c.prepared.unsettled = max(c.prepared.unsettled, inTransaction)
	}
	// What a session drops that has made temporary tables may be one of those, which is nobody else's business.
	if change&sqlsummary.Schema != 0 && c.prepared.unsettled != inSession {
		c.prepared.altered = true
	}
}

// nameThePath reports whether one of the arguments is the name of a setting that says where names are looked for.
// Arguments by name are not looked into.
func nameThePath(args []any) bool {
	for _, arg := range args {
		switch arg := arg.(type) {
		case string:
			if sqlsummary.IsPath(strings.ToLower(arg)) {
				return true
			}
		case pgx.QueryRewriter:
			return true
		}
	}
	return false
}

// forgetOutdated has pgx and the server forget what was prepared before the last change of the schema that the pool
// knows of. It is called before a transaction, where no statement can be asked again.
func (c *Conn) forgetOutdated(ctx context.Context) error {
	known := c.dialer.schema.Load()
	switch {
	case c.prepared.schema == known || c.prepared.named: // names of the borrower's own must stay
		return nil
	case !c.prepared.any:
		c.prepared.schema = known
		return nil
	}
	c.bound()
	defer c.guard.End()
	if err := c.pgx.DeallocateAll(ctx); err != nil {
		return err
	}
	p := &c.prepared
	p.schema, p.any, p.batched, p.unadopted = known, false, false, nil
	return nil
}

// Outdated reports whether a statement has failed that pgx had prepared or described before, without having been
// executed, in a way that a change of the schema since then may explain, and may be sent again. It is prepared anew
// then: pgx forgets what has failed.
//
// Either the server has refused it outside of a transaction, which the refusal would have ended; or pgx could not encode
// an argument for the type that its parameter had, and has sent nothing.
//
// The caller sends it again at once, or never. Either way other connections learn of a change that shows.
func (c *Conn) Outdated(err error) bool {
	if c.refused(err) {
		if c.pg.TxStatus() != 'I' || !pgerror.PlanIsOutdated(err) && !pgerror.HasNoSuchValue(err) {
			return false
		}
		c.learnSchema(err)
		return true
	}
	return c.wasCached() && c.tap.Mark() == c.stmt.mark && !c.pg.IsBusy() && pgerror.From(err) == nil &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// outdatedIn marks the error of a statement, once it is explained, if the server has refused it inside a transaction for
// what was prepared before a change of the schema. A value that its type doesn't have is taken for the caller's mistake.
func (c *Conn) outdatedIn(err, explained error) error {
	if !c.refused(err) || !pgerror.PlanIsOutdated(err) {
		return explained
	}
	c.learnSchema(err)
	return outdatedError{explained}
}

// wasCached reports whether the statement that has failed had been prepared or described before.
func (c *Conn) wasCached() bool {
	return c.stmt.plan.cached && !c.stmt.plan.anew && !c.pg.IsClosed()
}

// refused reports whether the server has sent the error of such a statement before it answered that the parameters are
// bound, which comes before any execution.
func (c *Conn) refused(err error) bool {
	return pgerror.From(err) != nil && c.wasCached() && c.tap.Refused()
}

// learnSchema tells the pool's other connections of a change of the schema that a refusal has shown, unless they know.
func (c *Conn) learnSchema(err error) {
	if c.refused(err) && pgerror.SchemaChanged(err) {
		c.dialer.schema.CompareAndSwap(c.prepared.schema, c.prepared.schema+1)
	}
}

// An outdatedError is that of a transaction in which such a statement was refused: begun again it may succeed.
type outdatedError struct{ error }

// Unwrap returns the server's error.
func (e outdatedError) Unwrap() error { return e.error }
