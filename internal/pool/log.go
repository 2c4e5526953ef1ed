package pool

import (
	"context"
	"errors"
	"time"

	"github.com/pgprod/pgprod/internal/diary"
	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/link"
)

// failure puts an error into words that the diary may show.
func failure(err error) diary.Failure {
	return diary.Failure{Type: instruments.ErrorType(err), Sort: sortOf(err), Text: link.SafeText(err)}
}

// sortOf is what an error has in common with others of its sort, however often the numbers in their texts change.
func sortOf(err error) string {
	if dial, ok := errors.AsType[*link.DialError](err); ok {
		return instruments.ErrorType(err) + " " + dial.Advice()
	}
	return instruments.ErrorType(err)
}

// unserved tells the diary that a caller got no connection, unless that is the caller's own doing.
func (p *Pool) unserved(ctx context.Context, err error, waited time.Duration) {
	if !p.closed.Load() && !errors.Is(err, context.Canceled) {
		p.diary.Unserved(ctx, failure(err), waited)
	}
}

// dialFailed tells the diary that a dial has failed, unless it was Close that ended it.
func (p *Pool) dialFailed(ctx context.Context, err *link.DialError) {
	if !p.closed.Load() && ctx.Err() != context.Canceled {
		p.diary.DialFailed(ctx, failure(err), err.Final)
	}
}

// lost tells the diary that a connection was lost. It is called once for each generation.
func (p *Pool) lost(cause error) {
	f := diary.Failure{Type: instruments.ErrorType(cause), Text: cause.Error()}
	if cause != errFoundDead && cause != link.ErrLost {
		f.Text = instruments.Describe(cause, "") // a function may raise what says that the server is read-only
	}
	p.diary.Lost(f)
}
