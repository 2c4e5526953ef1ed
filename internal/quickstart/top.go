package main

import (
	"context"
	"fmt"
	"io"
	"time"
)

// refreshEvery is how often the mode -top asks again.
const refreshEvery = time.Second

// A picture is what the mode -top shows: lines, of which some are headings.
type picture []pictureLine

// A pictureLine is a line. One that is too wide is cut off, or goes on in the next ones.
type pictureLine struct {
	text   string
	bold   bool
	goesOn bool
	indent int // how far the next ones are indented
}

// say adds a line that goes on in the next ones, indented so far, if it is too wide.
func (p *picture) say(indent int, format string, args ...any) {
	*p = append(*p, pictureLine{text: fmt.Sprintf(format, args...), goesOn: true, indent: indent})
}

// add adds a line that is cut off if it is too wide.
func (p *picture) add(format string, args ...any) {
	*p = append(*p, pictureLine{text: fmt.Sprintf(format, args...)})
}

// head adds a heading, with an empty line above.
func (p *picture) head(format string, args ...any) {
	if len(*p) > 0 {
		p.add("")
	}
	*p = append(*p, pictureLine{text: fmt.Sprintf(format, args...), bold: true})
}

// A watched is a page or a server that the mode -top shows.
type watched interface {
	look(ctx context.Context) (picture, error) // an error has neither a DSN nor a password in it
	close()
}

// runTop is the mode -top: it shows what a page or a server says, again and again until ctx ends, or once. It returns the
// exit status.
func runTop(ctx context.Context, o options, out *terminal, errOut io.Writer) int {
	source, err := openWatched(o.target)
	if err != nil {
		_, _ = fmt.Fprintln(errOut, "quickstart:", err)
		return 1
	}
	defer source.close()
	if o.once {
		seen, err := source.look(ctx)
		if err != nil {
			_, _ = fmt.Fprintln(errOut, "quickstart:", err)
			return 1
		}
		out.printf("%s", seen.text(widthFor(out), 0, false))
		return 0
	}
	follow(ctx, source, out)
	return 0
}

// follow shows what the source says until ctx ends. On a screen it uses the other one, as an editor does, so that the
// terminal is afterwards as it was.
func follow(ctx context.Context, source watched, out *terminal) {
	if out.redraws {
		out.printf("\x1b[?1049h\x1b[?25l\x1b[?7l")
		defer out.printf("\x1b[?7h\x1b[?25h\x1b[?1049l")
	}
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	var last memory
	for {
		seen, err := source.look(ctx)
		if ctx.Err() != nil {
			return
		}
		out.show(last.after(seen, err))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// show shows a picture in place of the last one, or below it where there is no screen.
func (t *terminal) show(p picture) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.redraws {
		t.printf("%s\n", p.text(widthFor(t), 0, false))
		return
	}
	columns, rows := t.size()
	t.printf("\x1b[H%s\x1b[J", p.text(columns, rows-1, true))
}

// memory is what was seen last, and since when there was no answer.
type memory struct {
	seen picture
	at   time.Time // when it was seen; zero: never
}

// after returns the picture to show after a look: the new one, or the last one, with the error on top.
func (m *memory) after(seen picture, err error) picture {
	if err == nil {
		m.seen, m.at = seen, time.Now()
		return seen
	}
	var p picture
	p.head("NO ANSWER: %s", printable(err.Error()))
	if !m.at.IsZero() {
		p.add("what follows is %s old", roughly(time.Since(m.at)))
	}
	return append(append(p, pictureLine{}), m.seen...)
}
