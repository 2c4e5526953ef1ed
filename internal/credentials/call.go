package credentials

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A call is one call of the application's function.
type call struct {
	done  chan struct{} // closed when what follows is known
	issue *Issue
	err   error
}

// errGone is the error of a function that has ended its goroutine, with runtime.Goexit.
var errGone = errors.New("the function has ended its goroutine")

// errOverdue is the error of a function that goes on after its context has ended.
var errOverdue = errors.New("the function goes on although its context has ended; no other call is begun before it returns")

// callLocked returns the call that is under way, and begins one if there is none. Its context has the values of ctx.
func (k *Keeper) callLocked(ctx context.Context) *call {
	if k.underWay == nil {
		k.underWay = &call{done: make(chan struct{})}
		go k.call(ctx, k.underWay) // ends when the application's function does
	}
	return k.underWay
}

// call calls the application's function and publishes its result. The function's context has the values of the dial that
// asked first, but not its end, since other dials may be waiting for the same call. It ends with the pool, or after
// Options.Limit.
func (k *Keeper) call(ctx context.Context, c *call) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), k.o.Limit)
	defer cancel()
	defer context.AfterFunc(k.o.Life, cancel)()
	defer context.AfterFunc(ctx, func() { k.overdue(c) })()
	answer, err := Credentials{}, errGone
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the function panicked: %v", p)
		}
		k.publish(c, answer, err)
	}()
	answer, err = k.o.Ask(ctx)
}

// publish ends a call, for those who wait for it first, and then reports it.
func (k *Keeper) publish(c *call, answer Credentials, err error) {
	if err == nil {
		err = answer.check(time.Now())
	}
	issue, changed := k.settle(answer, err)
	c.issue, c.err = issue, err
	close(c.done)
	switch {
	case !k.o.Keep || k.o.Life.Err() != nil:
	case err != nil:
		k.o.Failed(err, k.valid())
	default:
		k.o.Came(changed)
	}
}

// overdue is called when the context of a call has ended before the call. The function has a moment to notice that.
func (k *Keeper) overdue(c *call) {
	t := time.NewTimer(time.Second)
	defer t.Stop()
	select {
	case <-c.done:
	case <-k.o.Life.Done():
	case <-t.C:
		if k.o.Keep {
			k.o.Failed(errOverdue, k.valid())
		}
	}
}

// valid reports whether the present credentials still serve.
func (k *Keeper) valid() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.current.usable()
}

// wait returns the result of a call, or an error if ctx ends first, even if the function ignores its own context: otherwise
// the pool's Close would have to wait for the function.
func (c *call) wait(ctx context.Context) (*Issue, error) {
	select {
	case <-c.done:
		return c.issue, c.err
	case <-ctx.Done():
		return nil, Late{ctx.Err()}
	}
}

// Late is the error of whoever wanted credentials and didn't get them in time.
type Late struct{ cause error }

func (e Late) Error() string { return e.cause.Error() }

// Unwrap returns the context's error.
func (e Late) Unwrap() error { return e.cause }
