package link

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pgprod/pgprod/internal/pgerror"
)

// A DialError is a failure to connect. Its text is one line, and says what to look at.
type DialError struct {
	Cause error
	Final bool // there is no use in trying again

	dialer *Dialer
}

// Failed returns the error of a dial that failed.
func (d *Dialer) Failed(cause error) *DialError { return &DialError{Cause: cause, dialer: d} }

func (e *DialError) Error() string { return e.dialer.prefix() + e.text() }

// Unwrap returns the cause.
func (e *DialError) Unwrap() error { return e.Cause }

func (e *DialError) text() string { return oneLine(e.Cause) + e.hint() }

// hint says what to look at, in brackets, or nothing.
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

// Advice says what to look at, or nothing.
func (e *DialError) Advice() string {
	if _, none := errors.AsType[*PasswordError](e.Cause); none {
		return "there is no password to log in with"
	}
	return pgerror.Advice(e.Cause, e.dialer.PasswordFrom())
}

// Within is an error's text, in one line, for a text that names the pool already.
func Within(err error) string {
	if dial, ok := errors.AsType[*DialError](err); ok {
		return dial.text()
	}
	return oneLine(err)
}

// SafeText is an error's text for logs and pages, in one line: without what a password function says, which may be more
// than it should. Its caller gets it.
func SafeText(err error) string { return HidePassword(oneLine(err), err) }

// HidePassword takes what a password function says out of a text about an error.
func HidePassword(text string, err error) string {
	if password, ok := errors.AsType[*PasswordError](err); ok && password.Foreign {
		text = strings.ReplaceAll(text, oneLine(password.Cause), fmt.Sprintf("(%T)", password.Cause))
	}
	return text
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
