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

// unsettled says for how long the names in statements may mean something else than when pgx prepared them, because a
// statement has changed the schema or search_path. Until then statements are sent without pgx's cache of prepared
// statements. One that is in the cache would be refused, which ends a transaction, or would use the wrong table; and one
// that got into the cache now would be wrong afterwards.
type unsettled uint8

const (
	settled       unsettled = iota // the names mean what they meant when statements were prepared
	inTransaction                  // they may mean something else until the transaction ends
	inSession                      // they may mean something else until the connection is given back
)

// prepared is what is known of the statements that were prepared on a connection, and whether they are up to date.
type prepared struct {
	unsettled unsettled
	altered   bool   // the transaction under way has changed the schema, which concerns other connections once it ends
	schema    uint64 // Dialer.schema at a time when nothing was prepared: what was prepared since is as new as that at least
	nonEmpty  bool   // something was prepared since then
	named     bool   // a caller of Raw has prepared a statement under a name of its own
	already   bool   // pgx has reported of the last prepare that the statement was prepared already
	batched   bool   // a batch has run, so that pgx's cache may contain statements that Prepare doesn't know of

	name    string // the name of the last prepare
	warming bool   // Warm is under way
	queries uint   // how many queries have succeeded

	unadopted []unadopted // statements that Warm or Prepare has prepared and nobody has executed yet, the oldest first
	harmless  [16]string  // texts that are known to change and to leave nothing; each has its place by its length
}

// longText is the length in bytes from which a text is not kept as a prepared statement: the server would need about 40
// times as much memory for it, on each connection.
const longText = 8 << 10

// describedTexts is how many descriptions of statements pgx keeps for a connection. Descriptions are what it keeps of long
// texts, in place of prepared statements.
const describedTexts = 16

// bypass returns the arguments with which a statement is sent. If it must not go through pgx's cache of prepared statements,
// a pgx.QueryExecMode that bypasses the cache is put in front of them; parameters and results are the same with each mode. A
// mode that the caller has chosen itself comes after it, and pgx follows the last one.
func (c *Conn) bypass(ctx context.Context, query string, args []driver.NamedValue) []driver.NamedValue {
	if s := settingsOf(ctx); s != nil && s.path && caches(c.dialer.cfg.Conn.DefaultQueryExecMode) {
		return append([]driver.NamedValue{{Value: pgx.QueryExecModeDescribeExec}}, args...)
	}
	if c.mayCache(query) {
		return args
	}
	mode := pgx.QueryExecModeCacheDescribe
	if c.prepared.unsettled != settled && (c.pg.TxStatus() != 'I' || c.tx.begin != "") {
		mode = pgx.QueryExecModeDescribeExec
	}
	return append([]driver.NamedValue{{Value: mode}}, args...)
}

// mayCache reports whether a statement may be sent in the mode of the settings, which as a rule goes through pgx's cache of
// prepared statements.
//
// If it may not, bypass has it parsed anew with each execution, and the server keeps nothing of it. After a change within
// the transaction under way it is also described anew, in a round trip of its own. Otherwise pgx uses the description that
// it remembers: behind a pooler, an unnamed statement might be another client's by the time of a second round trip.
func (c *Conn) mayCache(query string) bool {
	mode := c.dialer.cfg.Conn.DefaultQueryExecMode
	if c.prepared.unsettled == settled {
		return len(query) < longText || mode != pgx.QueryExecModeCacheStatement || c.dialer.cfg.Conn.DescriptionCacheCapacity == 0
	}
	return !caches(mode)
}

// caches reports whether pgx keeps a prepared statement, or the server's description of one, for statements sent in this
// mode.
func caches(mode pgx.QueryExecMode) bool {
	return mode == pgx.QueryExecModeCacheStatement || mode == pgx.QueryExecModeCacheDescribe
}

// noteQuery is called when a query has ended. It notes whether the query has changed the schema or what names mean, and what
// it has left in the session, and at the end of a transaction counts a change of the schema for other connections. Most texts
// are found among the harmless ones.
func (c *Conn) noteQuery(tag, sql string, args []any) {
	c.noteUnset(tag, sql)
	if slot := &c.prepared.harmless[len(sql)%len(c.prepared.harmless)]; *slot != sql {
		changed := mayChange(tag, sql) && c.noteChanges(sql, args)
		leaves := c.noteLeft(tag, sql)
		if !changed && !leaves && tag != "" && len(sql) < longText {
			*slot = sql
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

// mayChange reports whether a text may change the schema or the meaning of names, so that it is worth a closer look. It is a
// cheap filter that is true of few texts. tag is the command tag of the last statement in the text.
func mayChange(tag, sql string) bool {
	word, _, _ := strings.Cut(tag, " ")
	switch word {
	case "CREATE", "ALTER", "DROP", "DO", "CALL", "DISCARD", "IMPORT", "SET", "RESET":
		return true
	case "SELECT": // CREATE TABLE AS and SELECT INTO have this tag as well
		return !isSingle(sql) || beginsWithCreate(sql) || mentions(sql, "set_config") || contains(sql, "into")
	}
	return !isSingle(sql)
}

// mentions reports whether a text contains a name with an underscore, in upper or lower case. It searches for the underscore,
// which is rarer than any letter of the name.
func mentions(sql, name string) bool {
	before := strings.IndexByte(name, '_')
	after := len(name) - before
	for from := 0; ; {
		i := strings.IndexByte(sql[from:], '_')
		if i < 0 {
			return false
		}
		i += from
		if i >= before && i+after <= len(sql) && strings.EqualFold(sql[i-before:i+after], name) {
			return true
		}
		from = i + 1
	}
}

// contains reports whether a text contains a word, in upper or lower case. The word is given in lower case.
func contains(sql, word string) bool {
	for i := range len(sql) - len(word) + 1 {
		if sql[i]|0x20 == word[0] && strings.EqualFold(sql[i:i+len(word)], word) {
			return true
		}
	}
	return false
}

// beginsWithCreate reports whether the first word of a text, after comments, is CREATE.
func beginsWithCreate(sql string) bool {
	sql = opening(sql)
	if sql == "" || sql[0] >= 'A' && sql[0]|0x20 != 'c' {
		return false
	}
	first, _ := sqlsummary.FirstWords(sql)
	return strings.EqualFold(first, "create")
}

// noteChanges notes what the statements of a text, executed with these arguments, have changed, and reports whether the text
// can change anything, be it with other arguments.
func (c *Conn) noteChanges(sql string, args []any) (can bool) {
	for statement := range sqlsummary.Split(sql) {
		change := sqlsummary.ChangeOf(statement)
		can = can || change != 0
		c.noteChange(change, args)
	}
	return can
}

// noteChange notes what one statement has changed: how long names may mean something else on this connection, and whether
// the change concerns other connections as well.
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
	// A session that has made temporary tables may have altered or dropped one of those, which concerns no other connection.
	if change&sqlsummary.Schema != 0 && c.prepared.unsettled != inSession {
		c.prepared.altered = true
	}
}

// nameThePath reports whether one of the arguments of set_config may be search_path, or another setting that decides which
// table a name stands for. Of arguments that are given by name (a pgx.QueryRewriter) that is assumed.
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

// forgetOutdated deallocates what was prepared on the connection before the last change of the schema that any connection of
// the pool has seen. It is called before a transaction begins, since a statement that the server refuses as outdated can't
// be tried again within one.
func (c *Conn) forgetOutdated(ctx context.Context) error {
	current := c.dialer.schema.Load()
	switch {
	case c.prepared.schema == current || c.prepared.named || c.setup.named: // what was prepared by name must stay
		return nil
	case !c.prepared.nonEmpty:
		c.prepared.schema = current
		return nil
	}
	c.beginUntraced(ctx)
	defer c.guard.End()
	if err := c.pgx.DeallocateAll(ctx); err != nil {
		return err
	}
	p := &c.prepared
	p.schema, p.nonEmpty, p.batched, p.unadopted = current, false, false, nil
	c.session.deallocated()
	return nil
}

// Outdated is asked after Try has failed with err. It reports whether the statement may be sent once more, on the same
// connection: it was not executed, pgx had prepared or described it earlier, and a change of the schema since then may be
// the reason of the failure. Sent again it is prepared anew, since pgx drops a statement that has failed from its cache.
//
// There are two cases. The server has refused the statement before executing it, outside of a transaction (in a transaction
// the refusal has ended that). Or pgx could not encode an argument for the type that the parameter had, and has sent
// nothing.
//
// If the refusal shows that the schema has changed, the pool's other connections learn of it.
func (c *Conn) Outdated(err error) bool {
	if c.attempt.turned != notTurned {
		return false // the server has not looked at it
	}
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

// outdatedIn is called by Fail with a statement's error, as it is and explained, and returns the explained one. If the
// server has refused the statement in a transaction because what was prepared is outdated, the result is an outdatedError,
// by which InTx knows that the transaction may be begun again. A value that doesn't fit its type is taken for the caller's
// mistake.
func (c *Conn) outdatedIn(err, explained error) error {
	if c.attempt.turned != notTurned || !c.refused(err) || !pgerror.PlanIsOutdated(err) {
		return explained
	}
	c.learnSchema(err)
	return outdatedError{explained}
}

// wasCached reports whether pgx had prepared or described the statement that has failed earlier, and not just for it.
func (c *Conn) wasCached() bool {
	return c.stmt.plan.cached && !c.stmt.plan.anew && !c.pg.IsClosed()
}

// refused reports whether err is the server's refusal of a statement that was cached, sent before the server confirmed that
// the parameters are bound. Then nothing of the statement was executed.
func (c *Conn) refused(err error) bool {
	return pgerror.From(err) != nil && c.wasCached() && c.tap.Refused()
}

// learnSchema is called with the error of a statement that was refused. If it shows that the schema has changed, the dialer
// counts a change, so that other connections forget what they have prepared, unless the change has been counted already.
func (c *Conn) learnSchema(err error) {
	if pgerror.SchemaChanged(err) {
		c.dialer.schema.CompareAndSwap(c.prepared.schema, c.prepared.schema+1)
	}
}

// An outdatedError is the error of a statement that was refused in a transaction because it was prepared before a change of
// the schema. If the transaction is begun again, the statement is prepared anew and may succeed.
type outdatedError struct{ error }

// Unwrap returns the server's error.
func (e outdatedError) Unwrap() error { return e.error }
