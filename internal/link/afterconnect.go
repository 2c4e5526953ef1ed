package link

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/settings"
	"github.com/pgprod/pgprod/internal/sqlsummary"
)

// A setup is what the application's functions do on a new connection, before anybody borrows it. While one runs, what pgx does
// is not a Statement: it has no span, no limit but that of the dial, and is not reported, because its failure is the dial's.
type setup struct {
	running bool   // a function is under way
	sql     string // the text of the query under way
	args    []any  // and its arguments
	named   bool   // a function has prepared statements under names of its own

	left  sqlsummary.Left // what the functions are seen to have left in the session
	names []string        // what may be names of run-time parameters that they have set and that pg_settings doesn't list
}

// undoable is what cleaning can undo without a loss if the functions have left it too: for settings and the role there is
// Conn.kept, and nobody relies on what currval returns.
const undoable = sqlsummary.LeftSettings | sqlsummary.LeftRole | sqlsummary.LeftSequences

// A HookError is a failure of the application's function of WithAfterConnect.
type HookError struct {
	Cause error // never nil
	Alive bool  // the connection was not lost before: the failure is the function's own
}

func (e *HookError) Error() string { return "after connect: " + e.Cause.Error() }

// Unwrap returns the cause.
func (e *HookError) Unwrap() error { return e.Cause }

// hookGrace is how long the application's function may take to return when the time of the dial is up.
const hookGrace = 500 * time.Millisecond

var (
	errHookHangs    = errors.New("the function has not returned within the time of a dial")
	errHookEnded    = errors.New("the function has ended its goroutine")
	errHookClosed   = errors.New("the function has closed the connection")
	errHookUnclosed = errors.New("the function has left a transaction or rows open")
	errHookForgets  = errors.New("DISCARD ALL and DEALLOCATE ALL must not be executed: " +
		"they take away what pgx has prepared, and server_settings")
)

// setUp calls the application's function for a connection of the pool's, and notes what it has left in the session. If the
// result is an error, the connection is closed, or will be when the function returns.
func (d *dialling) setUp(ctx context.Context, pc *pgx.Conn) error {
	c, hook := d.conn, d.hooks.AfterConnect
	switch config := d.cfg.Conn.AfterConnect; {
	case d.check != nil, hook == nil && config == nil:
		return nil
	case config != nil: // it has run already, and what it has done was not seen
		c.setup.left = sqlsummary.LeftSettings | sqlsummary.LeftRole
	}
	if hook == nil {
		hook = func(context.Context, *pgx.Conn) error { return nil }
	}
	c.setup.running = true
	c.beginSetup()
	done := make(chan error, 1)                              // has room for the result, so that the goroutine ends in any case
	go callHook(done, func() error { return hook(ctx, pc) }) // ends when the application's function does
	err, returned := awaitHook(ctx, done)
	if !returned {
		_ = c.pg.Conn().Close() // pgx's connection itself belongs to the function as long as that runs
		go func() {             // ends when the application's function does
			<-done
			_ = pc.Close(ctx)
		}()
		return &HookError{Cause: fmt.Errorf("%w: %w", errHookHangs, ctx.Err())}
	}
	if err == nil {
		err = c.endSetup(ctx)
	}
	c.guard.End()
	c.setup.running = false
	if err != nil {
		failure := &HookError{Cause: err, Alive: !c.pg.IsClosed() || err == errHookClosed}
		_ = pc.Close(ctx)
		return failure
	}
	c.heard.Store(clock.Now())
	return nil
}

// callHook calls a function of the application's and sends its error. A panic, and the end of the goroutine by
// runtime.Goexit, become errors.
func callHook(done chan<- error, f func() error) {
	err := errHookEnded
	defer func() {
		if value := recover(); value != nil {
			err = newDialPanic(value)
		}
		done <- err
	}()
	err = f()
}

// awaitHook waits for the function's error, until the time of the dial is up and hookGrace has passed since.
func awaitHook(ctx context.Context, done <-chan error) (err error, returned bool) {
	select {
	case err = <-done:
		return err, true
	case <-ctx.Done():
	}
	t := time.NewTimer(hookGrace)
	defer t.Stop()
	select {
	case err = <-done:
		return errors.Join(err, ctx.Err()), true
	case <-t.C:
		return nil, false
	}
}

// beginSetup is called by the tracer for whatever pgx begins during a setup. The end of a context hangs the connection up,
// since the dial has failed then.
func (c *Conn) beginSetup() { c.guard.Begin(clock.Now(), 0, guard.HangingUp) }

// beginSetupQuery is called by the tracer in place of begin for a query of a setup.
func (c *Conn) beginSetupQuery(sql string, args []any) {
	c.beginSetup()
	c.setup.sql, c.setup.args = sql, args
}

// noteSetup is called by the tracer when a query of a setup has ended, with its command tag.
func (c *Conn) noteSetup(tag, sql string, args []any) {
	if !mayLeave(tag, sql) {
		return
	}
	var left sqlsummary.Left
	for statement := range sqlsummary.Split(sql) {
		left |= sqlsummary.LeftBy(statement)
	}
	c.setup.left |= left
	if left&sqlsummary.LeftSettings == 0 {
		return
	}
	texts := []string{sql}
	for _, arg := range args {
		if text, ok := arg.(string); ok {
			texts = append(texts, text)
		}
	}
	for _, text := range texts {
		c.setup.names = append(c.setup.names, ownNames.FindAllString(text, -1)...)
	}
}

// ownNames finds what may be the name of a run-time parameter of the application's own, which has a dot in it. What else it
// finds, such as the name of a table, is no parameter to the server.
var ownNames = regexp.MustCompile(`[\pL_][\pL\pN_$]*(\.[\pL_][\pL\pN_$]*)+`)

// endSetup looks at what the application's function has left, when it has returned without an error.
func (c *Conn) endSetup(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case c.pg.IsClosed():
		return errHookClosed
	case c.pg.IsBusy() || c.pg.TxStatus() != 'I':
		return errHookUnclosed
	case c.setup.left&sqlsummary.LeftForgotten != 0:
		return errHookForgets
	}
	c.setup.named, c.prepared.named = c.prepared.named, false
	return c.keepSettings(ctx)
}

// sessionSettings asks for the run-time parameters that were set in the session, and for those of the given names.
const sessionSettings = "select name, pg_catalog.current_setting(name) from pg_catalog.pg_settings " +
	"where source = 'session' and setting is distinct from reset_val " +
	"union all select n, pg_catalog.current_setting(n, true) from pg_catalog.unnest($1::text[]) n " +
	"where pg_catalog.current_setting(n, true) is not null"

// keepSettings notes which run-time parameters the application's function has set, so that they are set again when what a
// borrower has left is undone.
func (c *Conn) keepSettings(ctx context.Context) error {
	left := c.setup.left
	if left&(sqlsummary.LeftSettings|sqlsummary.LeftRole) == 0 {
		return nil
	}
	names := c.setup.names
	if left&sqlsummary.LeftRole != 0 {
		names = append(names, "session_authorization", "role")
	}
	slices.Sort(names)
	array, err := c.pgx.TypeMap().Encode(textArray, pgx.TextFormatCode, slices.Compact(names), nil)
	if err != nil {
		return err
	}
	answer := c.pg.ExecParams(ctx, sessionSettings, [][]byte{array}, nil, nil, nil).Read()
	if answer.Err != nil {
		return answer.Err
	}
	c.keep(answer.Rows, c.pgx.Config().User)
	return nil
}

// textArray is the OID of the type text[].
const textArray = 1009

// keep adds what the server has answered to Conn.kept. The session's user comes first and the role second, since the one
// resets the other and what follows may need their rights.
func (c *Conn) keep(rows [][][]byte, user string) {
	var identity, others []settings.Setting
	for _, row := range rows {
		switch s := (settings.Setting{Name: string(row[0]), Value: string(row[1])}); {
		case s.Name == "session_authorization" && s.Value == user, s.Name == "role" && s.Value == "none":
		case s.Name == "session_authorization":
			identity = slices.Insert(identity, 0, s)
		case s.Name == "role":
			identity = append(identity, s)
		default:
			others = append(others, s)
		}
	}
	byDefault := slices.DeleteFunc(slices.Clone(c.kept), func(k settings.Setting) bool {
		return slices.ContainsFunc(others, func(s settings.Setting) bool { return strings.EqualFold(s.Name, k.Name) })
	})
	c.kept = slices.Concat(identity, byDefault, others)
}

// tagUnless returns a command tag as a text, "" for a query that has failed.
func tagUnless(err error, tag pgconn.CommandTag) string {
	if err != nil {
		return ""
	}
	return tag.String()
}
