package diary

import (
	"context"
	"log/slog"
	"time"
)

// DialFailed notes that an attempt to connect has failed; final says that another one would fail in the same way. The first
// one in an outage is logged.
func (d *Diary) DialFailed(ctx context.Context, f Failure, final bool) {
	message := "pgprod: can't connect, dialling goes on"
	if final {
		message = "pgprod: the server refuses to be connected to, repeating is of no use"
	}
	d.outageGoesOn(ctx, &d.dials, time.Now(), "connect", f, slog.LevelError, message)
}

// DialSucceeded notes that an attempt to connect has succeeded, which ends the outage if there is one.
func (d *Diary) DialSucceeded(ctx context.Context) {
	d.outageIsOver(ctx, &d.dials, time.Now(), "pgprod: connected again", "failed_attempts")
}

// Lost notes that a server has closed a connection, so that the idle ones to the same address are replaced. It is called
// once for all of these.
func (d *Diary) Lost(f Failure) {
	d.Replaced(f)
	d.tell(context.Background(), &d.ofPool, "lost", slog.LevelWarn,
		"pgprod: the server closed a connection, idle ones are replaced", slog.String("error", f.Text))
}

// Silent is Lost for connections that were cut here, because their host says nothing any more.
func (d *Diary) Silent(f Failure) {
	d.Replaced(f)
	d.tell(context.Background(), &d.ofPool, "silent", slog.LevelWarn,
		"pgprod: the host is silent, its connections are cut", slog.String("error", f.Text))
}

// Replaced is Lost where a line about the host says it already.
func (d *Diary) Replaced(f Failure) {
	d.events.Add("invalidate", f.Type, "a connection was lost: "+f.Text)
}

// Cut notes that a single connection was cut, which says nothing of others.
func (d *Diary) Cut(f Failure) {
	d.events.Add("cut", f.Type, "a connection was cut: "+f.Text)
	d.tell(context.Background(), &d.ofPool, "cut", slog.LevelWarn, "pgprod: a connection was cut, others stay", slog.String("error", f.Text))
}

// Unhealthy notes that a health check, which was over at the given time, has found that the database can't be used.
func (d *Diary) Unhealthy(ctx context.Context, at time.Time, f Failure) {
	d.outageGoesOn(ctx, &d.checks, at, "health", f, slog.LevelError, "pgprod: the database is unhealthy")
}

// Healthy notes that the server has answered a health check, which was over at the given time. That ends the outage, if
// there is one.
func (d *Diary) Healthy(ctx context.Context, at time.Time) {
	d.outageIsOver(ctx, &d.checks, at, "pgprod: the database is healthy again", "failed_checks")
}

// Settings writes what is wrong with the pool's settings.
func (d *Diary) Settings(ctx context.Context, warnings []string) {
	for _, w := range warnings {
		d.write(ctx, slog.LevelWarn, "pgprod: "+w, 0)
	}
}

// Preflight writes what is wrong with the server, the role or their settings.
func (d *Diary) Preflight(ctx context.Context, warnings []string) {
	for _, w := range warnings {
		d.write(ctx, slog.LevelWarn, "pgprod: preflight: "+w, 0)
	}
}

// PreflightFailed notes that the preflight got no answer, and why.
func (d *Diary) PreflightFailed(ctx context.Context, why string) {
	d.write(ctx, slog.LevelInfo, "pgprod: preflight: the server doesn't tell how it is set up", 0, slog.String("error", why))
}

// CredentialsFailed notes that the application's function for credentials has failed; valid says that those it has given
// before still serve.
func (d *Diary) CredentialsFailed(ctx context.Context, f Failure, valid bool) {
	message := "pgprod: no credentials to log in with, new connections wait for them"
	if valid {
		message = "pgprod: credentials can't be renewed, those that are valid are used until they end"
	}
	d.outageGoesOn(ctx, &d.logins, time.Now(), "credentials", f, slog.LevelWarn, message)
}

// CredentialsCame notes that the application's function has given credentials, which ends the outage if there is one.
func (d *Diary) CredentialsCame(ctx context.Context) {
	d.outageIsOver(ctx, &d.logins, time.Now(), "pgprod: credentials came again", "failed_attempts")
}
