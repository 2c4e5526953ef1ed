package diary

import (
	"context"
	"log/slog"
	"time"
)

// DialFailed notes that an attempt to connect has failed; final says that another one would fail in the same way. The first
// one in an outage is logged.
func (d *Diary) DialFailed(ctx context.Context, f Failure, final bool) {
	d.errors.Add("connect", f.Sort, f.Text)
	log, unlogged := d.dials.begin(time.Now())
	if !log {
		return
	}
	message := "pgprod: can't connect, dialling goes on"
	if final {
		message = "pgprod: the server refuses to be connected to, repeating is of no use"
	}
	d.write(ctx, slog.LevelError, message, unlogged, slog.String("error", f.Text))
}

// DialSucceeded notes that an attempt to connect has succeeded, which ends the outage if there is one.
func (d *Diary) DialSucceeded(ctx context.Context) {
	if logged, after, failures := d.dials.end(time.Now()); logged {
		d.ofPool.Flush() // lines about repetitions that were written after this one would look as if the outage went on
		d.write(ctx, slog.LevelInfo, "pgprod: connected again", 0,
			slog.Duration("after", after.Round(time.Millisecond)), slog.Int("failed_attempts", failures))
	}
}

// Lost notes that the server has closed a connection, so that the idle ones of its generation are replaced. It is called
// once for each generation.
func (d *Diary) Lost(f Failure) {
	d.events.Add("invalidate", f.Type, "a connection was lost: "+f.Text)
	d.tell(context.Background(), &d.ofPool, "lost", slog.LevelWarn,
		"pgprod: the server closed a connection, idle ones are replaced", slog.String("error", f.Text))
}

// Unhealthy notes that a health check, which was over at the given time, has found that the database can't be used.
func (d *Diary) Unhealthy(ctx context.Context, at time.Time, f Failure) {
	d.errors.Add("health", f.Sort, f.Text)
	if log, unlogged := d.checks.begin(at); log {
		d.write(ctx, slog.LevelError, "pgprod: the database is unhealthy", unlogged, slog.String("error", f.Text))
	}
}

// Healthy notes that the server has answered a health check, which was over at the given time. That ends the outage, if
// there is one.
func (d *Diary) Healthy(ctx context.Context, at time.Time) {
	if logged, after, failures := d.checks.end(at); logged {
		d.write(ctx, slog.LevelInfo, "pgprod: the database is healthy again", 0,
			slog.Duration("after", after.Round(time.Millisecond)), slog.Int("failed_checks", failures))
	}
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
	d.errors.Add("credentials", f.Sort, f.Text)
	log, unlogged := d.logins.begin(time.Now())
	if !log {
		return
	}
	message := "pgprod: no credentials to log in with, new connections wait for them"
	if valid {
		message = "pgprod: credentials can't be renewed, those that are valid are used until they end"
	}
	d.write(ctx, slog.LevelWarn, message, unlogged, slog.String("error", f.Text))
}

// CredentialsCame notes that the application's function has given credentials, which ends the outage if there is one.
func (d *Diary) CredentialsCame(ctx context.Context) {
	if logged, after, failures := d.logins.end(time.Now()); logged {
		d.write(ctx, slog.LevelInfo, "pgprod: credentials came again", 0,
			slog.Duration("after", after.Round(time.Millisecond)), slog.Int("failed_attempts", failures))
	}
}
