package link

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/wire"
)

// ErrAlreadyDone is the error of a transaction whose key was committed before, by another call. The root package exports it.
var ErrAlreadyDone = errors.New("pgprod: a transaction with this key was committed before")

// ErrDoneByUs is the error of Begin if the key of a Once that is Ahead was committed by the same call, whose COMMIT seemed
// lost. No application sees it.
var ErrDoneByUs = errors.New("pgprod: the transaction is committed")

// ErrKeyGone is the error of Begin if the key of a Once that is Ahead was deleted while it was looked at.
var ErrKeyGone = errors.New("pgprod: the key was deleted meanwhile")

// A Once is the key that is committed with a transaction, so that there is one transaction with this key at most. It belongs
// to one call of InTx, whose attempts share it, and is used by one goroutine at a time.
type Once struct {
	// Ahead says that Begin inserts the key, and waits for a transaction under way that has it. Otherwise the key travels with
	// the transaction's first statement.
	Ahead bool

	key   string
	token string // tells the call's own rows from those of others
	err   error  // why the server has refused the key; nil: it has not
}

// NewOnce returns a Once for a key.
func NewOnce(key string) *Once {
	var token [16]byte
	_, _ = rand.Read(token[:]) // never fails
	return &Once{key: key, token: hex.EncodeToString(token[:])}
}

// Refused returns why the server has refused the key, ErrAlreadyDone being among the causes if it was committed before; nil if
// it has not.
func (o *Once) Refused() error { return o.err }

// parameters returns the parameters of the statement that inserts the key.
func (o *Once) parameters() [][]byte { return [][]byte{[]byte(o.key), []byte(o.token)} }

// OnceTable returns the statement that makes the table for keys.
func OnceTable(table string) string {
	return "CREATE TABLE IF NOT EXISTS " + table +
		" (key text PRIMARY KEY, token uuid NOT NULL, done_at timestamptz NOT NULL DEFAULT now())"
}

// A Start is what Begin has to know of a transaction that InTx begins. It travels in the context.
type Start struct {
	Attempt int    // from 1 on
	Why     string // why the attempt before was rolled back, as error.type has it
	Once    *Once  // nil: the transaction has no key
}

type startKey struct{}

// WithStart returns a context with which InTx begins a transaction.
func WithStart(ctx context.Context, s *Start) context.Context {
	return context.WithValue(ctx, startKey{}, s)
}

// startOf returns what a context says of a transaction that begins; the zero value if it isn't InTx that begins it.
func startOf(ctx context.Context) Start {
	if s, ok := ctx.Value(startKey{}).(*Start); ok {
		return *s
	}
	return Start{}
}

// insertKey is the text of the statement that inserts a key, which fails if the key is there.
func (d *Dialer) insertKey() string {
	return "insert into " + d.cfg.OnceTable + " (key, token) values ($1, $2)"
}

// onceRider returns the rider that inserts the key of the transaction. It goes behind BEGIN and ahead of the settings of a
// context, which may be those of a role that must not write into the table.
func (c *Conn) onceRider() *wire.Rider {
	return c.recurring("pgprod_once", c.dialer.insertKey(), false, c.tx.once.parameters()...)
}

// insertAlone is called by Commit if the transaction had no statement with which BEGIN and the key could have travelled. It
// sends them in a round trip of their own.
func (c *Conn) insertAlone(ctx context.Context) error {
	c.NoteAttempt()
	if err := c.board(ctx, "", extended); err != nil {
		return err
	}
	return c.sendRiders(ctx)
}

// claim inserts the key of a transaction that has begun, ahead of anything else. If a transaction that has the key is still
// under way, it waits for that. It returns ErrDoneByUs or ErrAlreadyDone if the key is there; then the transaction is rolled
// back.
func (c *Conn) claim(ctx context.Context) error {
	o := c.tx.once
	c.beginUntraced(ctx)
	defer c.guard.End()
	err := c.insertOrLook(ctx, o)
	switch {
	case err == nil:
		c.tx.owesKey = false
		return nil
	case !c.pg.IsClosed():
		_ = c.rollback(context.WithoutCancel(ctx))
	case c.isFirst() && !c.guard.Cut().Happened():
		c.attempt.turned = elsewhere
	}
	return err
}

// insertOrLook inserts a key, or, if it is there, looks whose it is.
func (c *Conn) insertOrLook(ctx context.Context, o *Once) error {
	insert := c.pg.ExecParams(ctx, c.dialer.insertKey()+" on conflict (key) do nothing", o.parameters(), nil, nil, nil).Read()
	switch {
	case insert.Err != nil:
		return c.noKey(insert.Err)
	case insert.CommandTag.RowsAffected() == 1:
		return nil
	}
	look := c.pg.ExecParams(ctx, "select token = $2 from "+c.dialer.cfg.OnceTable+" where key = $1", o.parameters(), nil, nil, nil).Read()
	switch {
	case look.Err != nil:
		return c.noKey(look.Err)
	case len(look.Rows) == 0:
		return ErrKeyGone
	case string(look.Rows[0][0]) == "t":
		return ErrDoneByUs
	}
	return c.alreadyDone()
}

// keyRefused is called when the server has refused the key that travels with a statement. It returns the error of that
// statement, which is that of all later ones of the transaction, too.
func (c *Conn) keyRefused(err error) error {
	o := c.tx.once
	if pgerror.IsDuplicate(err) {
		o.err = c.alreadyDone()
	} else {
		o.err = c.noKey(err)
	}
	c.tx.refused = o.err
	return o.err
}

// alreadyDone returns the error of a transaction whose key is there. The server's error, which has the key, isn't in it.
func (c *Conn) alreadyDone() error {
	return fmt.Errorf("%sTxOnce: the transaction is rolled back: %w", c.dialer.prefix(), ErrAlreadyDone)
}

// noKey returns the error of a transaction whose key could not be inserted.
func (c *Conn) noKey(err error) error {
	table := c.dialer.cfg.OnceTable
	switch pg := pgerror.From(err); {
	case pg == nil:
		return err
	case pgerror.HasNoTable(err):
		return pgerror.WithCauses(fmt.Sprintf("%sTxOnce: there is no table %s as it has to be (%s, SQLSTATE %s); it is made by: %s",
			c.dialer.prefix(), table, pg.Message, pg.Code, OnceTable(table)), err)
	case pgerror.LacksPrivilege(err):
		return fmt.Errorf("%sTxOnce: the role must be allowed to use the table (GRANT SELECT, INSERT, DELETE ON %s): %w",
			c.dialer.prefix(), table, err)
	}
	return fmt.Errorf("%sTxOnce: the key could not be inserted, the statement has not run: %w", c.dialer.prefix(), err)
}

// withoutKey returns err, the error of the statement under way, in a form that logs and spans may show. If the server has
// refused the key in front of the statement since it is there, its error quotes the key, and is replaced by one that doesn't.
func (c *Conn) withoutKey(err error) error {
	if !pgerror.IsDuplicate(err) {
		return err
	}
	pg := pgerror.From(err)
	return &keyError{&pgconn.PgError{Severity: pg.Severity, SeverityUnlocalized: pg.SeverityUnlocalized, Code: pg.Code,
		Message: "a transaction with this key was committed before"}}
}

// A keyError is the server's refusal of a key that is there, without the key. ErrAlreadyDone is among its causes.
type keyError struct{ cause *pgconn.PgError }

func (e *keyError) Error() string { return e.cause.Error() }

// Unwrap returns the causes.
func (e *keyError) Unwrap() []error { return []error{ErrAlreadyDone, e.cause} }
