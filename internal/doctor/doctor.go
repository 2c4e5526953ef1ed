// Package doctor looks at all that lies between a program and its database before the program is deployed: the settings,
// each host of the DSN, TLS, the login, the server, a pooler in between. It says in one line each what it has found and what
// to do.
//
// It connects as a pool with these settings would, by package link, and judges the server by what package diagnose knows. It
// creates no table and leaves nothing behind. Each of its steps is bounded in time, and when a step on a host fails, the
// steps that depend on it are skipped.
//
//	doctor.go         Examine: the course of an examination, and its verdict
//	line.go           what is said of each thing that was looked at
//	configuration.go  the settings
//	host.go           the hosts of the DSN, their names and addresses
//	session.go        connections: the login, TLS, latency, the kind of server
//	server.go         the role, settings, limits, version, clock, collation
//	replication.go    standbys, and how far they are behind
//	pooler.go         whether there is a pooler, what works behind it, and which settings fit
//	trials.go         how that is tried
//	types.go          the types of columns that pgx doesn't know by itself
package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pgprod/pgprod/internal/diagnose"
	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/settings"
)

// The exit statuses, by which a deployment can tell whether it is worth waiting.
const (
	CanServe      = 0 // a pool with these settings works; there may be warnings
	CannotServe   = 1 // it doesn't work now, but may later: the server can't be reached, is starting or full
	Misconfigured = 2 // it doesn't work, and won't until somebody changes something: a setting, the password, the pooler
)

// stepTime is how long each question may take. Connecting may take as long as in a pool, by connect_timeout.
const stepTime = 5 * time.Second

// retryPause is the pause between two attempts to connect as the pool does.
const retryPause = time.Second

// Options say what is examined, and how.
type Options struct {
	Environ   []string        // as os.Environ returns it: where the DSN and the settings are
	Code      settings.Values // options in code, which win over the DSN; none as a rule
	Instances int             // how many pools with these settings there are; below 1: one
	Wait      time.Duration   // how long to wait for a server that can't serve now; 0: not at all
	Show      func(Line)      // called for each line as soon as it is known; nil: nobody
	Waiting   func(string)    // called, while waiting, with why; nil: nobody
}

// Examine looks at everything and returns what it has found. It ends early with ctx.
func Examine(ctx context.Context, o Options) Report {
	e := &examination{Options: o}
	e.Instances = max(1, o.Instances)
	if e.configuration() {
		e.examine(ctx)
	}
	return e.conclude()
}

// An examination is one call of Examine. One goroutine uses it.
type examination struct {
	Options
	cfg   *settings.Config
	lines []Line
	exit  int  // the exit status so far: the worst that was found
	typed bool // the types of columns were looked at, which all hosts have in common
}

// say adds a line and shows it.
func (e *examination) say(l Line) {
	e.lines = append(e.lines, l)
	if e.Show != nil {
		e.Show(l)
	}
}

// everywhere is the place of what is not about one host.
func (e *examination) everywhere() place { return place{examination: e} }

// misconfigured notes that waiting doesn't help.
func (e *examination) misconfigured() { e.exit = Misconfigured }

// examine connects as the pool does, and waits for that if it shall. Then it looks at each host by itself.
func (e *examination) examine(ctx context.Context) {
	s, err := e.reach(ctx)
	if s != nil {
		s.close() // at once: there may be room for few connections
	}
	e.pool(s, err)
	for _, h := range e.cfg.Hosts() {
		e.host(ctx, host{h})
	}
	if ctx.Err() != nil && e.exit == CanServe {
		e.exit = CannotServe
		e.everywhere().fail("examination", "", "it was ended early: %v", context.Cause(ctx))
	}
}

// reach connects as the pool does, to whichever host that reaches, and asks the server for its kind: a pooler accepts
// connections also when its server is gone. It tries again while it waits, and while it isn't certain that the failure will
// last.
func (e *examination) reach(ctx context.Context) (*session, error) {
	var doubts pgerror.Doubts
	until := time.Now().Add(e.Wait)
	for {
		s, err := e.everywhere().connect(ctx, e.cfg, false)
		if err == nil {
			return s, nil
		}
		prospect := e.prospect(err)
		switch {
		case prospect == pgerror.Final, doubts.IsFinal(err, e.rereadsPassword(), time.Now()):
			e.misconfigured()
			return nil, err
		case prospect == pgerror.Passing && time.Now().After(until), ctx.Err() != nil:
			e.exit = CannotServe
			return nil, err
		}
		if e.Waiting != nil && e.Wait > 0 {
			e.Waiting(link.SafeText(err))
		}
		pause(ctx, retryPause)
	}
}

// prospect is pgerror.ProspectOf. A password that can't be read now may be there later.
func (e *examination) prospect(err error) pgerror.Prospect {
	if _, noPassword := errors.AsType[*link.LoginError](err); noPassword {
		return pgerror.Passing
	}
	return pgerror.ProspectOf(err, e.rereadsPassword())
}

func (e *examination) rereadsPassword() bool { return e.cfg.PasswordFile != "" }

// pause waits between two attempts, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// pool says which host the pool gets its connections from. s is nil if it gets none, because of err.
func (e *examination) pool(s *session, err error) {
	p := e.everywhere()
	if s == nil {
		p.fail("pool", adviceOn(e.cfg, err), "gets no connection: %s", link.SafeText(err))
		return
	}
	p.ok("pool", "connects to %s, %s, within %v", s.reached, s.kind, short(s.took))
}

// conclude adds the verdict, which is the last line, and returns the report.
func (e *examination) conclude() Report {
	count := func(s Status) (n int) {
		for _, l := range e.lines {
			if l.Status == s {
				n++
			}
		}
		return n
	}
	failures, warnings := count(Failure), count(Warning)
	found := fmt.Sprintf("%d failed, %d warnings, %d ok", failures, warnings, count(OK))
	p := e.everywhere()
	switch {
	case e.exit == Misconfigured:
		p.fail(verdict, "change what failed above; waiting doesn't help", "can't serve: misconfigured (%s)", found)
	case e.exit == CannotServe:
		p.fail(verdict, "it may pass by itself: wait, and look at what failed above", "can't serve now (%s)", found)
	case failures+warnings > 0:
		p.warn(verdict, "look at what is not ok above", "can serve (%s)", found)
	default:
		p.ok(verdict, "can serve (%s)", found)
	}
	return Report{Status: e.lines[len(e.lines)-1].Status, ExitStatus: e.exit, Checks: slices.Clone(e.lines)}
}

// adviceOn says what to look at after a dial that has failed.
func adviceOn(cfg *settings.Config, err error) string {
	failed := link.NewDialer(context.Background(), cfg, link.Hooks{}).Failed(err)
	return failed.Advice()
}

// findings says what was found about a topic, or that all is well.
func (p place) findings(topic diagnose.Topic, all []diagnose.Finding, well string, args ...any) {
	found := false
	for _, f := range all {
		if f.Topic == topic {
			found = true
			p.warn(string(topic), f.Advice, "%s", f.What)
		}
	}
	if !found && well != "" {
		p.ok(string(topic), well, args...)
	}
}
