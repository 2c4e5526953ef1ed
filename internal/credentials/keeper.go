package credentials

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/pgprod/pgprod/internal/clock"
)

// A Source is where credentials come from.
type Source struct {
	Ask  func(context.Context) (Credentials, error) // the application's function; nil: there is none
	Keep bool                                       // an answer serves until it ends; otherwise each dial asks
	Name string                                     // what it is called in errors
	From string                                     // the option that has set it
}

// Options are what a Keeper is made of.
type Options struct {
	Source
	Life  context.Context // ends with the pool; ends the question under way, and no other is begun
	Limit time.Duration   // how long the context of one question lasts

	// Failed is called when a question has failed; valid says that the present credentials still serve. Came is called for each
	// answer; changed says that it isn't the same as the one before. They are called for a Source with Keep only, in a
	// goroutine of the Keeper's, without a lock.
	Failed func(err error, valid bool)
	Came   func(changed bool)
}

const (
	// firstPause follows a question that has failed; each further pause is twice as long, up to longestPause.
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
	// longestWanted is the longest pause while no credentials are valid, so that dials wait for an answer.
	longestWanted = time.Second
	// firstDoubt follows the second refusal of the same credentials, before the function is asked again because of that; each
	// further pause is twice as long, up to longestDoubt.
	firstDoubt   = 250 * time.Millisecond
	longestDoubt = 30 * time.Second
	// shortest is the shortest time to the next question in the background.
	shortest = 20 * time.Millisecond
)

// A Keeper asks a Source, one question at a time, and keeps its answer. It is safe for concurrent use. It ends with
// Options.Life, but for a question whose function doesn't return.
type Keeper struct {
	o Options

	mu       sync.Mutex // guards what follows; nothing else is locked and nothing of the application's called under it
	current  *Issue     // the last answer; nil: there was none, or it isn't kept
	underWay *call      // nil: there is none
	timer    *time.Timer
	failed   error // of the last question; nil: it was answered, or there was none
	failures pause // after questions that have failed
	refusals pause // after refusals of the present credentials
}

// A pause is the time in which something is not done again. Each is twice as long as the one before.
type pause struct {
	length time.Duration // 0: there was none
	until  int64         // by package clock
}

// begin begins the next pause, at now.
func (p *pause) begin(now int64, shortest, longest time.Duration) {
	p.length = min(max(2*p.length, shortest), longest)
	p.until = now + int64(p.length)
}

// lasts reports whether the pause goes on at now.
func (p *pause) lasts(now int64) bool { return p.length > 0 && now < p.until }

// New returns a Keeper that asks when somebody wants credentials, not before.
func New(o Options) *Keeper {
	k := &Keeper{o: o}
	context.AfterFunc(o.Life, k.stop)
	return k
}

// Get returns credentials to log in with: those that are there, or the answer to the question under way, or to a new one.
// It waits until ctx ends at most. Shortly after a question has failed the error is that question's, and none is asked.
func (k *Keeper) Get(ctx context.Context) (*Issue, error) {
	k.mu.Lock()
	if k.current.usable() {
		defer k.mu.Unlock()
		return k.current, nil
	}
	if k.underWay == nil && k.failed != nil && k.failures.lasts(clock.Now()) {
		defer k.mu.Unlock()
		return nil, k.failed
	}
	c := k.callLocked(ctx)
	k.mu.Unlock()
	return c.wait(ctx)
}

// Refused is called when the server has refused a login with the given credentials. It returns others that are there by now,
// or come when the function is asked anew. It returns nil if there are none: the function fails, gives the same ones, or has
// just been asked because of them. If answers aren't kept it returns nil, since the next dial asks in any case.
func (k *Keeper) Refused(ctx context.Context, refused *Issue) *Issue {
	k.mu.Lock()
	if k.current != refused {
		defer k.mu.Unlock()
		if k.current.usable() {
			return k.current
		}
		return nil
	}
	if now := clock.Now(); k.underWay == nil {
		if k.refusals.lasts(now) {
			k.mu.Unlock()
			return nil
		}
		k.refusals.begin(now, firstDoubt, longestDoubt)
	}
	c := k.callLocked(ctx)
	k.mu.Unlock()
	issue, err := c.wait(ctx)
	if err != nil || issue == refused {
		return nil
	}
	return issue
}

// Renew asks the function, or waits for the answer to the question under way, until ctx ends at most. If the function fails
// the credentials that are there stay.
func (k *Keeper) Renew(ctx context.Context) {
	k.mu.Lock()
	c := k.callLocked(ctx)
	k.mu.Unlock()
	_, _ = c.wait(ctx) // a failure is reported by Options.Failed
}

// Kept reports whether answers are kept.
func (k *Keeper) Kept() bool { return k.o.Keep }

// settle takes the outcome of the question under way, and plans the next one. It returns the credentials that came, if any,
// and whether they took the place of others.
func (k *Keeper) settle(answer Credentials, err error) (issue *Issue, changed bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.underWay = nil
	now := clock.Now()
	switch {
	case err != nil && k.o.Keep:
		k.failLocked(err, now)
		return nil, false
	case err != nil:
		return nil, false
	case !k.o.Keep:
		return newIssue(answer, now), false
	}
	k.failed, k.failures = nil, pause{}
	old := k.current
	issue = k.acceptLocked(answer, now)
	k.planLocked(k.renewalLocked(now))
	return issue, old != nil && old != issue
}

// failLocked notes that a question has failed. While the present credentials are valid it is asked again in the background;
// once they have ended, when somebody wants some. Pauses are shorter near the end, so that several tries are left.
func (k *Keeper) failLocked(err error, now int64) {
	k.failed = err
	if !k.current.usable() {
		k.failures.begin(now, firstPause, longestWanted)
		return
	}
	k.failures.begin(now, firstPause, longestPause)
	if left, ends := k.current.Left(now); ends {
		k.planLocked(max(min(withJitter(k.failures.length), left/4), shortest))
	}
}

// withJitter returns a time from half of d to d.
func withJitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// acceptLocked makes an answer the present credentials.
func (k *Keeper) acceptLocked(answer Credentials, now int64) *Issue {
	if old := k.current; old != nil {
		if old.same(&answer) {
			old.extend(answer.Expires, now)
			return old
		}
		old.replaced.Store(now)
	}
	k.current, k.refusals = newIssue(answer, now), pause{}
	return k.current
}

// renewalLocked returns how long to wait before the credentials that just came are asked for again: about two thirds of
// their time. 0 stands for never. A function that keeps credentials itself may give the same ones again, with the same end;
// then it is two thirds of the rest, and so on.
func (k *Keeper) renewalLocked(now int64) time.Duration {
	left, ends := k.current.Left(now)
	if !ends {
		return 0
	}
	return max(time.Duration((0.62+0.08*rand.Float64())*float64(left)), shortest)
}

// planLocked sets the timer for the next question in the background; 0: there will be none.
func (k *Keeper) planLocked(after time.Duration) {
	switch {
	case k.o.Life.Err() != nil:
	case after == 0:
		if k.timer != nil {
			k.timer.Stop()
		}
	case k.timer == nil:
		k.timer = time.AfterFunc(after, k.renew)
	default:
		k.timer.Reset(after)
	}
}

// renew is called by the timer.
func (k *Keeper) renew() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.o.Life.Err() == nil {
		k.callLocked(k.o.Life)
	}
}

// stop is called when Life has ended.
func (k *Keeper) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.timer != nil {
		k.timer.Stop()
	}
}
