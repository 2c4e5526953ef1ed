package settings

import "strings"

// problem is one thing that is wrong: where it was written, what is allowed, and a cause where that is safe to show.
type problem struct {
	where, want string
	cause       error
}

var _ error = (*problem)(nil)

func (p *problem) Error() string {
	text := "pgprod: " + p.where + ": " + p.want
	if p.cause != nil {
		text += ": " + p.cause.Error()
	}
	return text
}

func (p *problem) Unwrap() error { return p.cause }

// problems is everything that is wrong, one line each.
type problems []error

var _ error = problems(nil)

func (ps *problems) add(where, want string) { ps.wrap(where, want, nil) }

func (ps *problems) wrap(where, want string, cause error) {
	*ps = append(*ps, &problem{where, want, cause})
}

func (ps problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

func (ps problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

func (ps problems) Unwrap() []error { return ps }
