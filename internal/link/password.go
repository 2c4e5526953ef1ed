package link

import (
	"context"
	"sync"

	"github.com/pgprod/pgprod/internal/settings"
)

// passwordCalls sees to it that at most one call of the application's password function is under way. Dials that need the
// password meanwhile wait for the same call.
type passwordCalls struct {
	mu       sync.Mutex    // guards underWay
	underWay *passwordCall // nil: there is none
}

// passwordCall is one call of the application's password function.
type passwordCall struct {
	done     chan struct{} // closed when what follows is known
	password string
	err      error
}

// A PasswordError is a failure to get the password to log in with.
type PasswordError struct {
	From    string // what was to give it: "password_file" or "password function"
	Cause   error  // never nil
	Foreign bool   // the cause comes from the application's function and may contain a secret
}

func (e *PasswordError) Error() string { return e.From + ": " + e.Cause.Error() }

// Unwrap returns the cause.
func (e *PasswordError) Unwrap() error { return e.Cause }

// password returns the password for one dial. It is read anew for each, so that a changed password needs no restart. If
// there is neither a function nor a file it returns "", which leaves the password that pgx's configuration has, from the
// DSN, DB_PASSWORD or pgx's own sources.
func (d *Dialer) password(ctx context.Context) (string, error) {
	switch {
	case d.hooks.Password != nil:
		return d.askPassword(ctx)
	case d.cfg.PasswordFile != "":
		pw, err := settings.ReadPassword(d.cfg.PasswordFile)
		if err != nil {
			return "", &PasswordError{From: "password_file", Cause: err}
		}
		return pw, nil
	}
	return "", nil
}

// RereadsPassword reports whether the next dial may log in with another password than the last one did.
func (d *Dialer) RereadsPassword() bool { return d.hooks.Password != nil || d.cfg.PasswordFile != "" }

// PasswordFrom returns where the password comes from, in words for an error's text. It returns "" if only pgx knows.
func (d *Dialer) PasswordFrom() string {
	switch {
	case d.hooks.Password != nil:
		return "WithPasswordFunc"
	case d.cfg.PasswordFile != "":
		return "password_file"
	case d.cfg.PasswordInDSN:
		return "the DSN"
	}
	return ""
}

// askPassword returns the result of the application's function: of the call that is under way, or of a new one. When ctx
// ends it returns, even if the function ignores its own context: otherwise the pool's Close would have to wait for the
// function.
func (d *Dialer) askPassword(ctx context.Context) (string, error) {
	call := d.passwordCall(ctx)
	select {
	case <-call.done:
		if call.err != nil {
			return "", &PasswordError{From: "password function", Cause: call.err, Foreign: true}
		}
		return call.password, nil
	case <-ctx.Done():
		return "", &PasswordError{From: "password function", Cause: ctx.Err()}
	}
}

// passwordCall returns the call of the application's function that is under way, and starts one if there is none.
func (d *Dialer) passwordCall(ctx context.Context) *passwordCall {
	calls := &d.passwords
	calls.mu.Lock()
	defer calls.mu.Unlock()
	if calls.underWay == nil {
		calls.underWay = &passwordCall{done: make(chan struct{})}
		go d.callPassword(ctx, calls.underWay) // ends when the application's function does
	}
	return calls.underWay
}

// callPassword calls the application's function and publishes its result. The function's context has the values of the dial
// that asked first, but not its end, since other dials may be waiting for the same call. It ends with the pool, or after the
// time that a whole dial may take.
func (d *Dialer) callPassword(ctx context.Context, call *passwordCall) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.Limit())
	defer cancel()
	defer context.AfterFunc(d.life, cancel)()
	call.password, call.err = d.hooks.Password(ctx)
	d.passwords.mu.Lock()
	d.passwords.underWay = nil
	d.passwords.mu.Unlock()
	close(call.done)
}
