package link

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// connectFailures are the failures to connect to several hosts, or to several addresses of one.
type connectFailures []error

// joinFailures returns the error for failures, of which there is at least one.
func joinFailures(all []error) error {
	if len(all) == 1 {
		return all[0]
	}
	return connectFailures(all)
}

// failuresIn returns the failures that an error consists of.
func failuresIn(err error) []error {
	if several, ok := err.(connectFailures); ok {
		return several
	}
	return []error{err}
}

// Error is what pgx says when it has tried several hosts: who was to be connected to which database, then a line for each attempt.
func (e connectFailures) Error() string {
	head, lines := "failed to connect:", []string(nil)
	for _, err := range e {
		text := err.Error()
		if connect, ok := errors.AsType[*pgconn.ConnectError](err); ok {
			details := connect.Unwrap().Error()
			head, text = strings.TrimSpace(strings.TrimSuffix(connect.Error(), indented(details))), details
		}
		lines = append(lines, text)
	}
	return head + indented("\n"+strings.Join(lines, "\n"))
}

// indented returns a text as pgx has it within its error.
func indented(text string) string { return strings.ReplaceAll(text, "\n", "\n\t") }

// ConnectErrors says that the text is made of pgx's about connecting, so that telemetry may show it.
func (e connectFailures) ConnectErrors() {}

// Unwrap returns all of them.
func (e connectFailures) Unwrap() []error { return e }

// failure returns what each host has said in a race that nobody has won.
func (r *race) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []error
	for _, l := range r.lanes {
		switch {
		case l.stage == runs:
			all = append(all, l.silence())
		case l.err != nil:
			all = append(all, failuresIn(l.err)...)
		}
	}
	return joinFailures(all)
}
