package link

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/settings"
)

// greeting is what the connections of a dialer set for their sessions. It isn't changed once made: when a setting is
// dropped, the dialer gets another one.
type greeting struct {
	params  map[string]string  // those of the startup message
	set     []settings.Setting // those that set_config sets afterwards
	kept    []settings.Setting // what a new session has and RESET may not bring back
	limit   time.Duration      // the server's own limit for a statement; see boundOf
	dropped []string           // the defaults that were dropped, sorted
}

// greetingOf returns what the settings say, without those that are dropped.
func greetingOf(cfg *settings.Config, dropped []string) *greeting {
	rest := cfg.WithoutServerSettings(dropped...)
	return &greeting{rest.Conn.RuntimeParams, rest.Set, keptSettings(rest), boundOf(rest), dropped}
}

// dropRefused is called when a dial with a greeting has failed. If a pooler, or the server, has refused settings that are
// only pgprod's defaults, they are dropped for all later dials. It reports whether another dial is worth while at once: it
// will set less. What the user has written is never dropped.
func (d *Dialer) dropRefused(used *greeting, err error) bool {
	if _, byHook := errors.AsType[*HookError](err); byHook || d.hooks.Dropped == nil {
		return false
	}
	d.dropping.Lock()
	defer d.dropping.Unlock()
	now := d.greeting.Load()
	if now != used {
		return true // another dial has dropped some meanwhile
	}
	left := slices.DeleteFunc(slices.Clone(d.cfg.OnlyDefaults), func(name string) bool {
		return slices.Contains(now.dropped, name)
	})
	refused := pgerror.RefusedSettings(err, left)
	if len(refused) == 0 {
		return false
	}
	d.greeting.Store(greetingOf(d.cfg, slices.Sorted(slices.Values(slices.Concat(now.dropped, refused)))))
	return true
}

// tellDropped is called when a dial has succeeded with a greeting. It reports what was dropped, once.
func (d *Dialer) tellDropped(ctx context.Context, used *greeting) {
	if len(used.dropped) > 0 && d.told.Swap(int64(len(used.dropped))) < int64(len(used.dropped)) {
		d.hooks.Dropped(ctx, d.DroppedText())
	}
}

// Dropped returns the names of the server settings that were dropped: defaults of pgprod's that a pooler, or the server, has
// refused.
func (d *Dialer) Dropped() []string { return d.greeting.Load().dropped }

// DroppedText says in words which settings were dropped, and what that means; "": none were.
func (d *Dialer) DroppedText() string {
	names := d.Dropped()
	if len(names) == 0 {
		return ""
	}
	text := "server settings that are only defaults of pgprod were refused at connect, probably by a pooler, and are " +
		"dropped: " + strings.Join(names, ", ") + " (server_settings=" + strings.Join(names, "=,") + "= drops them without a try; " +
		"ALTER ROLE … SET sets them on the server)"
	if slices.Contains(names, statementTimeout) {
		text += "; the server no longer ends statements by itself, should this program hang"
	}
	return text
}
