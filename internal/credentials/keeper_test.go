package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/credentials"
)

// A vault is a function for credentials, with the keeper that asks it, in a bubble of synctest.
type vault struct {
	*credentials.Keeper
	t    *testing.T
	stop context.CancelFunc // ends the keeper's life

	mu      sync.Mutex // guards what follows
	asked   []time.Time
	answer  answers
	most    int // the most questions at once
	now     int
	failed  []string // what the keeper has reported, with whether the last answer was still valid
	came    int
	changes int // how many of them were others than before
}

// answers gives the answer to the nth question, from 1 on.
type answers func(ctx context.Context, n int) (credentials.Credentials, error)

// lease gives a new user each time.
func lease(d time.Duration) answers {
	return func(_ context.Context, n int) (credentials.Credentials, error) {
		return credentials.Credentials{User: fmt.Sprint("user ", n), Password: "s3cret", Expires: time.Now().Add(d)}, nil
	}
}

// inBubble runs a test with a vault whose answers are kept.
func inBubble(t *testing.T, answer answers, test func(*testing.T, *vault)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		life, stop := context.WithCancel(t.Context())
		v := &vault{t: t, stop: stop, answer: answer}
		v.Keeper = credentials.New(credentials.Options{
			Source: credentials.Source{Ask: v.ask, Keep: true}, Life: life, Limit: 10 * time.Second,
			Failed: func(err error, valid bool) {
				v.mu.Lock()
				defer v.mu.Unlock()
				v.failed = append(v.failed, fmt.Sprint(err, ", valid: ", valid))
			},
			Came: func(changed bool) {
				v.mu.Lock()
				defer v.mu.Unlock()
				v.came++
				if changed {
					v.changes++
				}
			},
		})
		defer synctest.Wait()
		defer stop()
		test(t, v)
	})
}

func (v *vault) ask(ctx context.Context) (credentials.Credentials, error) {
	v.mu.Lock()
	v.asked = append(v.asked, time.Now())
	n, answer := len(v.asked), v.answer
	v.now++
	v.most = max(v.most, v.now)
	v.mu.Unlock()
	defer func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.now--
	}()
	return answer(ctx, n)
}

// become changes the vault's answers.
func (v *vault) become(answer answers) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.answer = answer
}

// questions returns how often the vault was asked.
func (v *vault) questions() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.asked)
}

// user returns the user of the credentials that a dial gets now.
func (v *vault) user() string {
	v.t.Helper()
	issue, err := v.Get(v.t.Context())
	require.NoError(v.t, err)
	return issue.User
}

// pass lets time pass, and what happens meanwhile be over.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

var errSealed = errors.New("sealed")

func sealed(context.Context, int) (credentials.Credentials, error) {
	return credentials.Credentials{}, errSealed
}

func TestNobodyIsAskedBeforeTheFirstDialAndOneAnswerServesAll(t *testing.T) {
	inBubble(t, func(context.Context, int) (credentials.Credentials, error) {
		time.Sleep(time.Second)
		return credentials.Credentials{User: "one"}, nil
	}, func(t *testing.T, v *vault) {
		pass(time.Hour)
		assert.Zero(t, v.questions())
		var dials sync.WaitGroup
		for range 10 {
			dials.Go(func() { assert.Equal(t, "one", v.user()) })
		}
		dials.Wait()
		pass(1000 * time.Hour)
		assert.Equal(t, "one", v.user())
		assert.Equal(t, 1, v.questions(), "what doesn't end is not asked for again")
	})
}

func TestCredentialsAreAskedForAgainAheadOfTheirEndInTheBackground(t *testing.T) {
	inBubble(t, lease(time.Hour), func(t *testing.T, v *vault) {
		require.Equal(t, "user 1", v.user())
		for n := 1; n <= 20; n++ {
			before := v.asked[n-1]
			pass(time.Until(before.Add(37 * time.Minute)))
			require.Equal(t, n, v.questions())
			pass(time.Until(before.Add(42*time.Minute + time.Second)))
			require.Equal(t, n+1, v.questions())
			require.Equal(t, fmt.Sprint("user ", n+1), v.user())
		}
		assert.Equal(t, 1, v.most)
		assert.Empty(t, v.failed)
		assert.Equal(t, 21, v.came)
		assert.Equal(t, 20, v.changes)
	})
}

func TestTheOldCredentialsServeWhileTheyAreValidAndTheSourceIsDown(t *testing.T) {
	inBubble(t, lease(time.Hour), func(t *testing.T, v *vault) {
		require.Equal(t, "user 1", v.user())
		v.become(sealed)
		pass(59 * time.Minute)
		assert.Equal(t, "user 1", v.user())
		tries := v.questions() - 1
		assert.Greater(t, tries, 100, "a pause is five seconds at most")
		assert.Less(t, tries, 800, "and no less than half of that")
		assert.Len(t, v.failed, tries)
		assert.Equal(t, "sealed, valid: true", v.failed[0])

		v.become(lease(time.Hour))
		pass(6 * time.Second)
		assert.NotEqual(t, "user 1", v.user())
		assert.Equal(t, 2, v.came)
	})
}

func TestWhenTheOldCredentialsHaveEndedDialsGetTheSourcesErrorAndDontFloodIt(t *testing.T) {
	inBubble(t, lease(time.Hour), func(t *testing.T, v *vault) {
		v.user()
		v.become(sealed)
		pass(time.Hour)
		before := v.questions()
		for range 1000 { // dials, for a minute
			_, err := v.Get(t.Context())
			require.ErrorIs(t, err, errSealed)
			pass(60 * time.Millisecond)
		}
		assert.InDelta(t, 60, v.questions()-before, 10)
		assert.Equal(t, "sealed, valid: false", v.failed[len(v.failed)-1])

		asked := v.questions()
		pass(time.Hour)
		assert.Equal(t, asked, v.questions(), "without dials nobody needs an answer")
		v.become(lease(time.Hour))
		assert.NotEmpty(t, v.user())
	})
}

func TestNearTheEndTheSourceIsAskedMoreOften(t *testing.T) {
	inBubble(t, lease(time.Second), func(t *testing.T, v *vault) {
		v.user()
		v.become(sealed)
		pass(950 * time.Millisecond)
		v.become(lease(time.Hour))
		pass(40 * time.Millisecond)
		assert.NotEqual(t, "user 1", v.user())
	})
}

func TestTheSameCredentialsWithALaterEndAreALongerLease(t *testing.T) {
	inBubble(t, func(context.Context, int) (credentials.Credentials, error) {
		return credentials.Credentials{User: "app", Expires: time.Now().Add(time.Hour)}, nil
	}, func(t *testing.T, v *vault) {
		issue, err := v.Get(t.Context())
		require.NoError(t, err)
		pass(10 * time.Hour)
		again, err := v.Get(t.Context())
		require.NoError(t, err)
		assert.Same(t, issue, again)
		assert.False(t, issue.Ended(clock.Now()))
		left, ends := issue.Left(clock.Now())
		assert.True(t, ends)
		assert.Greater(t, left, 17*time.Minute)
		assert.Zero(t, v.changes)
	})
}

func TestAFunctionThatKeepsItsTokenUntilShortlyBeforeItsEndIsNotAskedAllTheTime(t *testing.T) {
	var token credentials.Credentials
	inBubble(t, func(_ context.Context, n int) (credentials.Credentials, error) {
		if time.Until(token.Expires) < 4*time.Minute { // as Google's and Azure's do
			token = credentials.Credentials{Token: fmt.Sprint("token", n), Expires: time.Now().Add(time.Hour)}
		}
		return token, nil
	}, func(t *testing.T, v *vault) {
		v.user()
		pass(10 * time.Hour)
		assert.InDelta(t, 32, v.questions(), 12, "three times for each token")
		assert.Empty(t, v.failed)
	})
}

func TestARefusedLoginAsksAnewOnceForAllDialsAndThenWithPauses(t *testing.T) {
	inBubble(t, lease(time.Hour), func(t *testing.T, v *vault) {
		first, err := v.Get(t.Context())
		require.NoError(t, err)
		var dials sync.WaitGroup
		for range 10 {
			dials.Go(func() { assert.Equal(t, "user 2", v.Refused(t.Context(), first).User) })
		}
		dials.Wait()
		require.Equal(t, 2, v.questions())
		require.Equal(t, "user 2", v.user())

		second, err := v.Get(t.Context())
		require.NoError(t, err)
		v.become(func(context.Context, int) (credentials.Credentials, error) { return second.Credentials, nil })
		for range 10 {
			assert.Nil(t, v.Refused(t.Context(), second), "the function knows no others")
		}
		assert.Equal(t, 3, v.questions(), "it is asked at once, and not again for a while")
		assert.Equal(t, "user 2", v.user(), "they may be accepted later")
		pass(251 * time.Millisecond)
		assert.Nil(t, v.Refused(t.Context(), second))
		pass(251 * time.Millisecond)
		assert.Nil(t, v.Refused(t.Context(), second))
		assert.Equal(t, 4, v.questions(), "a pause is twice as long as the one before")
		v.become(lease(time.Hour))
		pass(time.Second)
		assert.Equal(t, "user 5", v.Refused(t.Context(), second).User)
	})
}

func TestARefusedLoginWithASourceThatIsDownLeavesTheCredentialsInPlace(t *testing.T) {
	inBubble(t, lease(time.Hour), func(t *testing.T, v *vault) {
		issue, err := v.Get(t.Context())
		require.NoError(t, err)
		v.become(sealed)
		assert.Nil(t, v.Refused(t.Context(), issue))
		assert.Equal(t, "user 1", v.user())
	})
}

func TestRenewAsksAtOnceAndAFailureLeavesTheCredentialsInPlace(t *testing.T) {
	inBubble(t, func(_ context.Context, n int) (credentials.Credentials, error) {
		return credentials.Credentials{User: fmt.Sprint("user ", n)}, nil // without an end
	}, func(t *testing.T, v *vault) {
		require.Equal(t, "user 1", v.user())
		v.Renew(t.Context())
		require.Equal(t, "user 2", v.user())
		v.become(sealed)
		v.Renew(t.Context())
		assert.Equal(t, "user 2", v.user())
		assert.Equal(t, 3, v.questions())
		assert.Equal(t, []string{"sealed, valid: true"}, v.failed)
	})
}

func TestAFunctionThatPanicsOrEndsItsGoroutineOrGivesNonsenseHasFailed(t *testing.T) {
	panics := func(context.Context, int) (credentials.Credentials, error) { panic("no more tokens") }
	exits := func(context.Context, int) (c credentials.Credentials, err error) { runtime.Goexit(); return c, err }
	gives := func(c credentials.Credentials) answers {
		return func(context.Context, int) (credentials.Credentials, error) { return c, nil }
	}
	for want, answer := range map[string]answers{
		"the function panicked: no more tokens":    panics,
		"the function has ended its goroutine":     exits,
		"had ended, 1m0s ago":                      lease(-time.Minute),
		"User and Password must not contain a NUL": gives(credentials.Credentials{User: "a\x00b"}),
		"Token must consist of printable ASCII":    gives(credentials.Credentials{Token: "a\x01b"}),
	} {
		t.Run(want, func(t *testing.T) {
			inBubble(t, answer, func(t *testing.T, v *vault) {
				_, err := v.Get(t.Context())
				require.ErrorContains(t, err, want)
				synctest.Wait()
				require.Len(t, v.failed, 1)
				v.become(lease(time.Hour))
				pass(time.Second)
				assert.Equal(t, "user 2", v.user())
			})
		})
	}
}

func TestAFunctionThatTakesNoNoticeOfItsContextHoldsNobodyUpForLong(t *testing.T) {
	inBubble(t, lease(time.Hour), func(t *testing.T, v *vault) {
		hang := make(chan struct{})
		v.user()
		v.become(func(ctx context.Context, n int) (credentials.Credentials, error) {
			<-hang
			return lease(time.Hour)(ctx, n)
		})
		pass(59 * time.Minute)
		assert.Equal(t, "user 1", v.user())
		require.Len(t, v.failed, 1, "it is reported when its time is up")
		assert.True(t, strings.HasPrefix(v.failed[0], "the function goes on although its context has ended"))
		pass(time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := v.Get(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 2, v.questions(), "no other question while one is open")
		close(hang)
		assert.Equal(t, "user 2", v.user())
	})
}

func TestTheEndOfThePoolEndsTheQuestionAndTheTimer(t *testing.T) {
	inBubble(t, lease(time.Hour), func(t *testing.T, v *vault) {
		v.user()
		v.become(func(ctx context.Context, _ int) (credentials.Credentials, error) {
			<-ctx.Done()
			return credentials.Credentials{}, ctx.Err()
		})
		for v.questions() < 2 {
			pass(time.Second)
		}
		v.stop()
		pass(10 * time.Hour)
		assert.Equal(t, 2, v.questions())
		assert.Empty(t, v.failed, "the end of the pool is no failure of the source's")
	})
}

// TestConnectionsRetireOneAfterAnotherBeforeTheirCredentialsEnd looks at a hundred connections that were made together.
func TestConnectionsRetireOneAfterAnotherBeforeTheirCredentialsEnd(t *testing.T) {
	inBubble(t, lease(time.Hour), func(t *testing.T, v *vault) {
		issue, err := v.Get(t.Context())
		require.NoError(t, err)
		made := clock.Now()
		ages := func() (first, last, widest time.Duration) {
			before := int64(0)
			for n := range 100 {
				at := issue.RetireAt(made, float64(n)/100)
				if n > 0 {
					widest = max(widest, time.Duration(at-before))
				}
				before = at
			}
			return time.Duration(issue.RetireAt(made, 0) - made), time.Duration(before - made), widest
		}
		first, last, _ := ages()
		assert.InDelta(t, 57, first.Minutes(), 0.1, "without others they stay until shortly before the end")
		assert.InDelta(t, 58.5, last.Minutes(), 0.1)

		pass(43 * time.Minute)
		require.Equal(t, "user 2", v.user())
		first, last, widest := ages()
		assert.InDelta(t, 45, first.Minutes(), 0.1, "there are others")
		assert.InDelta(t, 57, last.Minutes(), 0.2)
		assert.Less(t, widest, 8*time.Second, "no wave")

		late := clock.Now() + int64(16*time.Minute) // a dial that had begun with the old ones: a minute is left
		assert.Greater(t, issue.RetireAt(late, 0), late+int64(29*time.Second))
		assert.Less(t, issue.RetireAt(late, 1), late+int64(time.Minute))
	})
}
