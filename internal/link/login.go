package link

import (
	"cmp"
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/pgprod/pgprod/internal/credentials"
	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/settings"
)

// A LoginError is a failure to get what to log in with.
type LoginError struct {
	From    string // what was to give it: password_file, or the name of the application's function
	Cause   error  // never nil
	Foreign bool   // the cause comes from the application's function and may contain a secret
}

func (e *LoginError) Error() string { return e.From + ": " + e.Cause.Error() }

// Unwrap returns the cause.
func (e *LoginError) Unwrap() error { return e.Cause }

// newKeeper returns the keeper of what the application's function says.
func (d *Dialer) newKeeper() *credentials.Keeper {
	return credentials.New(credentials.Options{
		Source: d.hooks.Login, Life: d.life, Limit: d.Limit(),
		Failed: func(err error, valid bool) { d.hooks.LoginFailed(d.loginError(err), valid) },
		Came:   d.hooks.LoginCame,
	})
}

// login returns what one dial logs in with. A password file is read anew for each, so that a changed password needs no
// restart. If there is neither a function nor a file the result is empty: that leaves the user and the password that pgx's
// configuration has, from the DSN, DB_PASSWORD or pgx's own sources.
func (d *Dialer) login(ctx context.Context) (*credentials.Issue, error) {
	switch {
	case d.keeper != nil:
		issue, err := d.keeper.Get(ctx)
		if err != nil {
			return nil, d.loginError(err)
		}
		return issue, nil
	case d.cfg.PasswordFile != "":
		password, err := settings.ReadPassword(d.cfg.PasswordFile)
		if err != nil {
			return nil, &LoginError{From: "password_file", Cause: err}
		}
		return &credentials.Issue{Credentials: credentials.Credentials{Password: password}}, nil
	}
	return &credentials.Issue{}, nil
}

// loginError returns the LoginError for an error of the keeper's.
func (d *Dialer) loginError(err error) error {
	_, invalid := errors.AsType[credentials.Invalid](err)
	_, late := errors.AsType[credentials.Late](err)
	return &LoginError{From: d.hooks.Login.Name, Cause: err, Foreign: !invalid && !late}
}

// mayRenew reports whether a dial has failed because the server doesn't accept what it has logged in with, so that the
// application's function may know better by now.
func (d *Dialer) mayRenew(err error) bool {
	_, loggedIn := errors.AsType[*HookError](err)
	return d.keeper != nil && !loggedIn && pgerror.RefusesLogin(err)
}

// setLogin puts what a connection logs in with into its configuration. A DSN without a database names the one of its own user,
// whoever logs in.
func setLogin(cc *pgx.ConnConfig, login *credentials.Issue) {
	if login.User != "" {
		cc.Database = cmp.Or(cc.Database, cc.User)
		cc.User = login.User
	}
	if login.Password != "" {
		cc.Password = login.Password
	}
	if token := login.Token; token != "" {
		cc.OAuthTokenProvider = func(context.Context) (string, error) { return token, nil }
	}
}

// RereadsPassword reports whether the next dial may log in with another password than the last one did.
func (d *Dialer) RereadsPassword() bool { return d.keeper != nil || d.cfg.PasswordFile != "" }

// Login returns the credentials that the connection was made with, if others are to take their place before they end. It
// returns nil if each dial asks for its own. It may be called at any time.
func (c *Conn) Login() *credentials.Issue {
	if !c.dialer.KeepsLogin() {
		return nil
	}
	return c.login
}

// KeepsLogin reports whether what the application's function says serves for several dials.
func (d *Dialer) KeepsLogin() bool { return d.keeper != nil && d.keeper.Kept() }

// RenewLogin asks the application's function anew, and waits for its answer for as long as a dial may take, or until ctx ends.
func (d *Dialer) RenewLogin(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, d.Limit())
	defer cancel()
	d.keeper.Renew(ctx)
}

// PasswordFrom returns where the password comes from, in words for an error's text. It returns "" if only pgx knows.
func (d *Dialer) PasswordFrom() string {
	switch {
	case d.keeper != nil:
		return d.hooks.Login.From
	case d.cfg.PasswordFile != "":
		return "password_file"
	case d.cfg.PasswordInDSN:
		return "the DSN"
	}
	return ""
}
