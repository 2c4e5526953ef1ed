// Package credentials has what connections log in with, when an application's function supplies that: it asks the function,
// one question at a time, keeps the answer for as long as it is valid, asks again ahead of its end, and says when the
// connections that were made with it should be replaced.
//
//	credentials.go  Credentials, and what may be in them
//	issue.go        Issue: credentials that were received, when they end, and when their connections retire
//	keeper.go       Keeper: who asks, and when
//	call.go         one call of the application's function
package credentials

import (
	"fmt"
	"strings"
	"time"
)

// Credentials are what a connection logs in with.
type Credentials struct {
	User     string    // "": that of the settings
	Password string    // "": none
	Token    string    // of OAuth, for the server's method oauth; "": none
	Expires  time.Time // zero: they don't end
}

// Invalid is the error of an answer that can't be used. Its text has nothing of the answer but when it has ended.
type Invalid string

func (e Invalid) Error() string { return string(e) }

// check says what is wrong with credentials that were received at now. What it refuses would end the field of a message
// early, so that the rest was taken for something else.
func (c *Credentials) check(now time.Time) error {
	switch {
	case strings.ContainsRune(c.User, 0) || strings.ContainsRune(c.Password, 0):
		return Invalid("User and Password must not contain a NUL character")
	case strings.ContainsFunc(c.Token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return Invalid("Token must consist of printable ASCII characters without spaces")
	case !c.Expires.IsZero() && !now.Before(c.Expires):
		return Invalid(fmt.Sprintf("the credentials had ended, %v ago by this machine's clock, when they were received",
			now.Sub(c.Expires).Round(time.Millisecond)))
	}
	return nil
}

// same reports whether a server can't tell c from other.
func (c *Credentials) same(other *Credentials) bool {
	return c.User == other.User && c.Password == other.Password && c.Token == other.Token
}
