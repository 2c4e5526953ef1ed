package pool

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

// password is what to log in with: read anew for each dial, so that a rotated secret needs no restart. "" leaves what
// the settings have: none beside a function, else what the DSN, DB_PASSWORD or pgx's own sources say.
func (p *Pool) password(ctx context.Context) (string, error) {
	switch {
	case p.hooks.Password != nil:
		return p.askPassword(ctx)
	case p.cfg.PasswordFile != "":
		pw, err := settings.ReadPassword(p.cfg.PasswordFile)
		if err != nil {
			return "", &passwordError{from: "password_file", cause: err}
		}
		return pw, nil
	}
	return "", nil
}

// rereadsPassword reports whether the next dial may log in with another password than the last.
func (p *Pool) rereadsPassword() bool { return p.hooks.Password != nil || p.cfg.PasswordFile != "" }

// passwordFrom is where the password comes from, "" if that isn't ours to know.
func (p *Pool) passwordFrom() string {
	switch {
	case p.hooks.Password != nil:
		return "WithPasswordFunc"
	case p.cfg.PasswordFile != "":
		return "password_file"
	case p.cfg.PasswordInDSN:
		return "the DSN"
	}
	return ""
}

// askPassword calls the application's function, or joins the call that is under way. It doesn't wait longer than ctx for
// a function that takes no notice of its context: Close would wait as well.
func (p *Pool) askPassword(ctx context.Context) (string, error) {
	call := p.passwordCall(ctx)
	select {
	case <-call.done:
		if call.err != nil {
			return "", &passwordError{from: "password function", cause: call.err, foreign: true}
		}
		return call.password, nil
	case <-ctx.Done():
		return "", &passwordError{from: "password function", cause: ctx.Err()}
	}
}

func (p *Pool) passwordCall(ctx context.Context) *passwordCall {
	calls := &p.passwords
	calls.mu.Lock()
	defer calls.mu.Unlock()
	if calls.underWay == nil {
		calls.underWay = &passwordCall{done: make(chan struct{})}
		go p.callPassword(ctx, calls.underWay) // ends when the application's function does
	}
	return calls.underWay
}

// callPassword runs under the values of the dial that asks first, and ends with the pool, or when that dial would have
// had to: another dial that waits for the same call may need it longer than the first one does.
func (p *Pool) callPassword(ctx context.Context, call *passwordCall) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.dialLimit())
	defer cancel()
	defer context.AfterFunc(p.life, cancel)()
	call.password, call.err = p.hooks.Password(ctx)
	p.passwords.mu.Lock()
	p.passwords.underWay = nil
	p.passwords.mu.Unlock()
	close(call.done)
}
