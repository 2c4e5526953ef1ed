package settings

import "strings"

// A problem is one thing that is wrong with the settings.
type problem struct {
	where string // the key as the user wrote it, such as "DSN key pool_size" or "variable DB_POOL_SIZE"
	want  string // what is allowed there, or what is wrong
	cause error  // nil where there is none, or where its text may hold a secret
}

var _ error = (*problem)(nil)

// Error implements error.
func (p *problem) Error() string {
	text := "pgprod: " + p.where + ": " + p.want
	if p.cause != nil {
		text += ": " + p.cause.Error()
	}
	return text
}

// Unwrap returns the cause, for errors.Is and errors.As.
func (p *problem) Unwrap() error { return p.cause }

// problems are all that is wrong. As an error its text has a line for each.
type problems []error

var _ error = problems(nil)

// add adds a problem without a cause.
func (ps *problems) add(where, want string) { ps.wrap(where, want, nil) }

// wrap adds a problem. The text of its cause must be safe to show.
func (ps *problems) wrap(where, want string, cause error) {
	*ps = append(*ps, &problem{where, want, cause})
}

// err returns nil if there is no problem.
func (ps problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

// Error implements error.
func (ps problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns all problems, for errors.Is and errors.As.
func (ps problems) Unwrap() []error { return ps }
