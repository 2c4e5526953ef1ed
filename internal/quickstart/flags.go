package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// The defaults of -think.
const (
	busyPause  = 10 * time.Millisecond
	lightPause = 500 * time.Millisecond // with -addr
)

// options are those of the command line.
type options struct {
	duration time.Duration
	users    int
	think    time.Duration // how long a user waits between two requests, on average
	profile  string        // "": the environment's, or the default
	sweep    bool
	failover bool
	addr     string // "": don't serve, end after duration

	check     bool          // only look at what DB_DSN names, see check.go
	json      bool          // with check: the report as JSON
	instances int           // with check: how many pools there will be
	wait      time.Duration // with check: how long to wait for the server

	top    bool   // only show what a page or a server says, see top.go
	target string // with top: the page's address or a DSN, which may have a password in it; "": the environment's DSN
	once   bool   // with top: once
}

var profiles = []string{"small", "medium", "large"}

// parseFlags reads the command line. What is wrong with it is written to errOut.
func parseFlags(args []string, errOut io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	flags.SetOutput(errOut)
	flags.DurationVar(&o.duration, "duration", 5*time.Second, "how long to work")
	flags.IntVar(&o.users, "users", 50, "how many users work at once")
	flags.DurationVar(&o.think, "think", busyPause, "how long a user thinks between two requests, on average (with -addr 500ms)")
	flags.StringVar(&o.profile, "profile", "", "the pool's profile: small, medium or large (default: DB_PROFILE, else medium)")
	flags.BoolVar(&o.sweep, "sweep", false, "try pool sizes one after the other within -duration, and tell the best")
	flags.BoolVar(&o.failover, "failover", false, "restart the server midway, and tell what that cost")
	flags.StringVar(&o.addr, "addr", "", "an address such as :8080: work lightly and serve the status there until interrupted")
	flags.BoolVar(&o.check, "check", false, "look at DB_DSN's hosts, TLS, login, server and pooler, and tell what to do; "+
		"exit status 0: can serve, 1: can't now, 2: misconfigured")
	flags.BoolVar(&o.json, "json", false, "with -check: as JSON")
	flags.IntVar(&o.instances, "instances", 1, "with -check: how many pools like this there will be")
	flags.DurationVar(&o.wait, "wait", 0, "with -check: how long to wait for a server that can't serve yet")
	flags.BoolFunc("top", "show who waits for whom and what runs, every second: of the page whose address follows, as "+
		"http://localhost:8080/debug/pgprod, of the server whose DSN follows, or of DB_DSN's", o.setTop)
	flags.BoolVar(&o.once, "once", false, "with -top: show it once")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.top && o.target == "" && flags.NArg() > 0 { // further flags may follow what -top shows
		o.target = flags.Arg(0)
		if err := flags.Parse(flags.Args()[1:]); err != nil {
			return o, err
		}
	}
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if o.addr != "" && !given["think"] {
		o.think = lightPause
	}
	if o.top && flags.NArg() > 0 { // which may be a DSN: it isn't shown
		err = errors.New("-top takes one address or DSN")
	} else if flags.NArg() > 0 {
		err = fmt.Errorf("quickstart takes no arguments, only flags: %q", flags.Arg(0))
	} else {
		err = errors.Join(o.validate(given["profile"]), o.validateCheck(given), o.validateTop(given))
	}
	if err != nil {
		_, _ = fmt.Fprintln(errOut, "quickstart:", err)
	}
	return o, err
}

// validate returns an error if a value isn't allowed, or if flags contradict each other.
func (o options) validate(profileGiven bool) error {
	switch {
	case o.duration <= 0:
		return fmt.Errorf("-duration must be above 0, not %v", o.duration)
	case o.users < 1:
		return fmt.Errorf("-users must be at least 1, not %d", o.users)
	case o.think < 0:
		return fmt.Errorf("-think must not be below 0, as %v is", o.think)
	case profileGiven && !slices.Contains(profiles, o.profile):
		return fmt.Errorf("-profile must be small, medium or large, not %q", o.profile)
	case o.sweep && o.failover, o.sweep && o.addr != "", o.failover && o.addr != "":
		return errors.New("-sweep, -failover and -addr don't go together: give one of them")
	case o.failover && os.Getenv("DB_DSN") != "":
		return errors.New("-failover restarts the server, which it does to one of its own only: unset DB_DSN")
	}
	return nil
}

// setTop is called for -top, with "true", and for -top=….
func (o *options) setTop(value string) error {
	o.top = true
	if value != "true" {
		o.target = value
	}
	return nil
}

// validateTop returns an error if -top has a flag that is another mode's, or another mode -once.
func (o options) validateTop(given map[string]bool) error {
	for name := range given {
		if o.top && name != "top" && name != "once" {
			return fmt.Errorf("-top doesn't go together with -%s", name)
		}
	}
	if o.once && !o.top {
		return errors.New("-once is for -top")
	}
	return nil
}

// validateCheck returns an error if -check has a flag that is another mode's, or another mode one of -check's.
func (o options) validateCheck(given map[string]bool) error {
	ofCheck := []string{"check", "json", "instances", "wait", "profile"}
	for name := range given {
		switch known := slices.Contains(ofCheck, name); {
		case o.check && !known:
			return fmt.Errorf("-check doesn't go together with -%s", name)
		case !o.check && known && name != "check" && name != "profile":
			return fmt.Errorf("-%s is for -check", name)
		}
	}
	switch {
	case o.instances < 1:
		return fmt.Errorf("-instances must be at least 1, not %d", o.instances)
	case o.wait < 0:
		return fmt.Errorf("-wait must not be below 0, as %v is", o.wait)
	}
	return nil
}
