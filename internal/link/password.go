package link

import (
	"context"
	"sync"

	"github.com/pgprod/pgprod/internal/settings"
)

// passwordCalls sees to it that one call of the application's password function is under way at most.
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

// A PasswordError is a failure to get the password.
type PasswordError struct {
	From    string // what was asked for it
	Cause   error
	Foreign bool // the cause is the application's, and may say anything
}

func (e *PasswordError) Error() string { return e.From + ": " + e.Cause.Error() }

// Unwrap returns the cause.
func (e *PasswordError) Unwrap() error { return e.Cause }

// password is what to log in with: read anew for each dial, so that a rotated secret needs no restart. "" leaves what the
// settings have: none beside a function, else what the DSN, DB_PASSWORD or pgx's own sources say.
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

// RereadsPassword reports whether the next dial may log in with another password than the last.
func (d *Dialer) RereadsPassword() bool { return d.hooks.Password != nil || d.cfg.PasswordFile != "" }

// PasswordFrom is where the password comes from, "" if that isn't ours to know.
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

// askPassword calls the application's function, or joins the call that is under way. It doesn't wait longer than ctx for
// a function that takes no notice of its context: Close would wait as well.
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

// callPassword runs under the values of the dial that asks first, and ends with the pool, or when that dial would have
// had to: another dial that waits for the same call may need it longer than the first one does.
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
