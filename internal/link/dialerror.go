package link

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/pgerror"
)

// A DialError is a failure to connect. Its text is one line, and says what to look at.
type DialError struct {
	Cause error // never nil
	Final bool  // another dial would fail in the same way; set by the pool

	dialer *Dialer
}

// Failed returns the DialError of a dial of this dialer's that has failed because of cause.
func (d *Dialer) Failed(cause error) *DialError { return &DialError{Cause: cause, dialer: d} }

func (e *DialError) Error() string { return e.dialer.prefix() + e.text() }

// Unwrap returns the cause.
func (e *DialError) Unwrap() error { return e.Cause }

// text is the error's text without the pool's name.
func (e *DialError) text() string { return oneLine(e.Cause) + e.hint() }

// hint returns the advice, and that no DSN was given if so, in brackets, or "" if there is nothing to say.
func (e *DialError) hint() string {
	hint := e.Advice()
	if why := e.dialer.cfg.NoDSN; why != "" {
		hint = strings.TrimPrefix(hint+"; "+why, "; ")
	}
	if hint == "" {
		return ""
	}
	return " (" + hint + ")"
}

// Advice says what to look at. It returns "" if the cause suggests nothing.
func (e *DialError) Advice() string {
	if _, none := errors.AsType[*LoginError](e.Cause); none {
		return "there is no password to log in with"
	}
	return pgerror.Advice(e.Cause, e.dialer.PasswordFrom())
}

// Within returns an error's text, in one line, to be part of a text that names the pool already.
func Within(err error) string {
	if failed, ok := errors.AsType[*DialError](err); ok {
		return failed.text()
	}
	return oneLine(err)
}

// HostText returns why a host counts as down, as SafeText, if an attempt to connect to it says so; else ok is false. Of a login that
// has failed it leaves out user and database, which are those of all hosts.
func HostText(err error) (text string, ok bool) {
	_, hook := errors.AsType[*HookError](err)
	_, dial := errors.AsType[*DialError](err)
	_, late := errors.AsType[*silentError](err)
	connect, login := errors.AsType[*pgconn.ConnectError](err)
	switch {
	case login && !hook:
		return SafeText(connect.Unwrap()), true
	case login, dial, hook, late:
		return SafeText(err), true
	}
	return "", false
}

// SafeText returns an error's text, in one line, for logs and pages. It leaves out the error of the application's function for
// the login, which may contain a secret, and the values in that of its function for new connections; only the caller of a
// statement gets these.
func SafeText(err error) string { return HideForeign(oneLine(err), err) }

// HideForeign takes the error of one of the application's functions, if err contains one, out of a text about err.
func HideForeign(text string, err error) string {
	if hook, ok := errors.AsType[*HookError](err); ok {
		text = strings.ReplaceAll(text, oneLine(hook.Cause), instruments.Describe(hook.Cause, ""))
	}
	if login, ok := errors.AsType[*LoginError](err); ok && login.Foreign {
		text = strings.ReplaceAll(text, oneLine(login.Cause), fmt.Sprintf("(%T)", login.Cause))
	}
	return text
}

// oneLine returns an error's text with single spaces in place of line breaks and other white space.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
