package doctor

import (
	"strings"

	"github.com/pgprod/pgprod/internal/diagnose"
	"github.com/pgprod/pgprod/internal/settings"
)

// configuration loads and checks the settings, as sql.Open("pgprod", "") does. It reports whether they are of use.
func (e *examination) configuration() bool {
	const check = "settings"
	p := e.everywhere()
	cfg, err := settings.Load("", e.Environ, e.Code, "")
	switch {
	case err != nil:
		e.misconfigured()
		for _, problem := range eachOf(err) {
			p.fail(check, "correct it: sql.Open refuses it", "%s", strings.TrimPrefix(problem.Error(), "pgprod: "))
		}
		return false
	case cfg.NoDSN != "":
		e.misconfigured()
		p.fail(check, "set DB_DSN to the DSN of the database", "there is no database to look at: %s", cfg.NoDSN)
		return false
	}
	e.cfg = cfg
	p.ok(check, "%s", inForce(cfg))
	for _, warning := range cfg.Warnings {
		p.warn(check, "", "%s", warning)
	}
	p.findings(diagnose.AboutPassword, diagnose.JudgePassword(cfg), "")
	return true
}

// eachOf returns the problems that an error of settings.Load consists of.
func eachOf(err error) []error {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		return all.Unwrap()
	}
	return []error{err}
}

// inForce says where a pool would connect to, and which settings are not the defaults, each with where it was given.
// settings.Shown hides secrets.
func inForce(cfg *settings.Config) string {
	var all []string
	for _, s := range cfg.Destination() {
		all = append(all, s.Key+"="+s.Value)
	}
	for _, s := range cfg.Shown() {
		if s.Source != settings.SourceDefault && s.Key != "server_settings" {
			all = append(all, s.Key+"="+s.Value+" ("+string(s.Source)+")")
		}
	}
	return strings.Join(all, ", ") + "; all others are the defaults"
}
