package diary

import (
	"context"
	"log/slog"
	"time"
)

// DialFailed notes that an attempt to connect has failed; final says that there is no use in trying again.
func (d *Diary) DialFailed(ctx context.Context, f Failure, final bool) {
	d.errors.Add("connect", f.Sort, f.Text)
	tell, untold := d.dials.begin(time.Now())
	if !tell {
		return
	}
	message := "pgprod: can't connect, callers wait and dialling goes on"
	if final {
		message = "pgprod: the server refuses to be connected to, repeating is of no use"
	}
	d.write(ctx, slog.LevelError, message, untold, slog.String("error", f.Text))
}

// DialSucceeded notes that an attempt to connect has succeeded, which ends the outage if there is one.
func (d *Diary) DialSucceeded(ctx context.Context) {
	if told, after, failures := d.dials.end(time.Now()); told {
		d.ofPool.Flush() // what is told later would look like news
		d.write(ctx, slog.LevelInfo, "pgprod: connected again", 0,
			slog.Duration("after", after.Round(time.Millisecond)), slog.Int("failed_attempts", failures))
	}
}

// Lost notes that the server has closed a connection, so that others as old as that are replaced. It is called once for each
// generation of connections.
func (d *Diary) Lost(f Failure) {
	d.events.Add("invalidate", f.Type, "a connection was lost: "+f.Text)
	d.tell(context.Background(), &d.ofPool, "lost", slog.LevelWarn,
		"pgprod: the server closed a connection, idle ones are replaced", slog.String("error", f.Text))
}

// Unhealthy notes that a check, over at the given time, has found the database to be of no use.
func (d *Diary) Unhealthy(ctx context.Context, at time.Time, f Failure) {
	d.errors.Add("health", f.Sort, f.Text)
	if tell, untold := d.checks.begin(at); tell {
		d.write(ctx, slog.LevelError, "pgprod: the database is unhealthy", untold, slog.String("error", f.Text))
	}
}

// Healthy notes that the server has answered a check, over at the given time, which ends the outage if there is one.
func (d *Diary) Healthy(ctx context.Context, at time.Time) {
	if told, after, failures := d.checks.end(at); told {
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

// PreflightFailed notes that the server doesn't let itself be asked for that.
func (d *Diary) PreflightFailed(ctx context.Context, why string) {
	d.write(ctx, slog.LevelInfo, "pgprod: preflight: the server doesn't tell how it is set up", 0, slog.String("error", why))
}
