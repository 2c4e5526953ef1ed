package link

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/hosts"
	"github.com/pgprod/pgprod/internal/settings"
)

// A course is a host in a test of the race's timing: what a login there leads to, and when. The zero value is a primary that accepts
// it at once.
type course struct {
	takes time.Duration // until the answer; forever: there is none
	role  hosts.Role    // NoRole: Primary
	err   error         // instead of the role
}

const (
	forever = 1000 * time.Hour
	timeout = 30 * time.Second // connect_timeout
	rtt     = 10 * time.Millisecond
)

// A raceTrack has hosts a, b, … whose courses may change, and notes when each was asked. It is used within synctest.
type raceTrack struct {
	*Dialer
	began time.Time

	mu     sync.Mutex // guards what follows
	course map[string]course
	asked  []string // host and time
}

func newTrack(t *testing.T, attrs string, courses ...course) *raceTrack {
	t.Helper()
	var names []string
	track := &raceTrack{began: time.Now(), course: map[string]course{}}
	for i, c := range courses {
		names = append(names, string(rune('a'+i)))
		track.course[names[i]] = c
	}
	cfg, err := settings.Load("host="+strings.Join(names, ",")+" sslmode=disable connect_timeout=30s target_session_attrs="+attrs, nil,
		settings.Values{}, "")
	require.NoError(t, err)
	track.Dialer = NewDialer(t.Context(), cfg, Hooks{})
	track.attempt = track.run
	return track
}

// run stands in for lane.connect.
func (k *raceTrack) run(ctx context.Context, l *lane) error {
	name := l.host.At().Host
	k.mu.Lock()
	c := k.course[name]
	k.asked = append(k.asked, name+" "+time.Since(k.began).String())
	k.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	select {
	case <-time.After(c.takes):
	case <-ctx.Done():
		return &net.OpError{Op: "dial", Net: name, Err: ctx.Err()}
	}
	if c.err != nil {
		if errors.Is(c.err, errWrongPassword) {
			l.race.endLogins()
		}
		return c.err
	}
	role := max(c.role, hosts.Primary)
	fit := k.hosts.Wanted().Fit(role)
	l.meets(role, c.takes, fit == hosts.Unfit)
	if fit == hosts.Unfit {
		return unfit[k.hosts.Wanted()]
	}
	g := &leg{lane: l, verdict: make(chan bool, 1)}
	if err := l.race.claim(ctx, g, fit != hosts.Second); err != nil {
		return err
	}
	l.race.result <- made{conn: &Conn{host: l.host}}
	return nil
}

var errWrongPassword error = &pgconn.PgError{Code: "28P01"}

// dial is a dial by the Board's plan. It returns the host that it has led to, and how long that took.
func (k *raceTrack) dial(ctx context.Context) (host string, took time.Duration, err error) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, k.Limit())
	defer cancel()
	c, err := k.dialHosts(ctx, purpose{})
	if err != nil {
		return "", time.Since(start), err
	}
	return c.host.At().Host, time.Since(start), nil
}

// requires dials, and checks where that leads to and how long it takes.
func (k *raceTrack) requires(t *testing.T, host string, after time.Duration) {
	t.Helper()
	got, took, err := k.dial(t.Context())
	require.NoError(t, err)
	require.Equal(t, host, got)
	require.Equal(t, after, took)
}

// refused is what a host without a server says.
func refused() course {
	return course{takes: rtt, err: &net.OpError{Op: "dial", Err: errors.New("refused")}}
}

func (k *raceTrack) set(name string, c course) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.course[name] = c
}

func (k *raceTrack) stateOf(i int) hosts.State { return k.hosts.Hosts()[i].Status().State }

func TestASilentHostHasAHeadStartOnceAndIsThenLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTrack(t, "any", course{takes: forever}, course{takes: rtt}, course{takes: rtt})
		k.requires(t, "b", headStart+rtt)
		k.requires(t, "b", rtt) // nothing is known of a yet but that it takes its time
		time.Sleep(leastPatience)
		assert.Equal(t, hosts.Down, k.stateOf(0))
		k.requires(t, "b", rtt)
		time.Sleep(timeout)
		assert.Equal(t, []string{"a 0s", "b 250ms", "b 260ms", "b 1.27s"}, k.asked)
		assert.Equal(t, hosts.Down, k.stateOf(0))
	})
}

func TestASlowHostIsKnownWhenItHasAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTrack(t, "any", course{takes: 2 * time.Second}, course{takes: rtt})
		k.requires(t, "b", headStart+rtt)
		time.Sleep(3 * time.Second)
		assert.Equal(t, hosts.Up, k.stateOf(0))
		k.requires(t, "a", 2*time.Second) // it is the first in the DSN, and that long is what it takes
	})
}

func TestAHostThatRefusesCostsNoHeadStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTrack(t, "any", refused(), refused(), course{takes: rtt})
		k.requires(t, "c", 3*rtt)
		k.requires(t, "c", rtt)
	})
}

func TestTheErrorHasALineForEachHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTrack(t, "any", refused(), course{takes: forever}, course{takes: forever})
		_, took, err := k.dial(t.Context())
		require.ErrorContains(t, err, "refused")
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Len(t, err, 3)
		assert.Equal(t, rtt+headStart+timeout, took)
	})
}

func TestTheFirstServerThatIsWhatIsWantedWins(t *testing.T) {
	standby := course{takes: rtt, role: hosts.Standby}
	readOnly := course{takes: rtt, role: hosts.ReadOnly}
	primary := course{takes: rtt}
	for attrs, host := range map[string]string{
		"any": "a", "read-write": "c", "primary": "b", "read-only": "a", "standby": "a", "prefer-standby": "a",
	} {
		synctest.Test(t, func(t *testing.T) {
			k := newTrack(t, attrs, standby, readOnly, primary)
			got, _, err := k.dial(t.Context())
			require.NoError(t, err)
			assert.Equal(t, host, got, attrs)
			k.requires(t, host, rtt)
		})
	}
}

func TestAPrimaryHasToDoIfNoStandbyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTrack(t, "prefer-standby", course{takes: rtt}, course{takes: forever}, course{takes: forever})
		k.requires(t, "a", rtt+headStart+leastPatience)
		k.requires(t, "a", rtt) // the others aren't waited for any more
	})
	synctest.Test(t, func(t *testing.T) {
		k := newTrack(t, "prefer-standby", course{takes: rtt}, refused(), course{takes: 900 * time.Millisecond, role: hosts.Standby})
		k.requires(t, "c", 2*rtt+900*time.Millisecond)
	})
}

func TestADialEndsSoonIfWhoAnswersIsNotWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTrack(t, "read-write", course{takes: forever}, course{takes: rtt, role: hosts.Standby})
		_, took, err := k.dial(t.Context())
		require.ErrorIs(t, err, pgconn.ErrReadOnlyConnection)
		require.ErrorContains(t, err, "no answer within 1s")
		assert.Equal(t, leastPatience, took)
		k.set("b", course{takes: rtt})
		k.requires(t, "b", rtt)
	})
}

func TestAHostThatIsKnownToServeGetsAllItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTrack(t, "read-write", course{takes: rtt}, course{takes: rtt, role: hosts.Standby})
		k.hosts.Hosts()[1].Serves(hosts.Standby, rtt)
		k.requires(t, "a", rtt)
		k.set("a", course{takes: 10 * time.Second}) // it has much to do
		k.requires(t, "a", 10*time.Second)
	})
}

func TestWhoHasRefusedIsAskedAgainWhileAnotherIsAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTrack(t, "read-write", course{takes: rtt}, course{takes: rtt, role: hosts.Standby})
		k.hosts.Hosts()[1].Serves(hosts.Standby, rtt)
		k.requires(t, "a", rtt)
		k.set("a", course{takes: forever})
		go func() { time.Sleep(2 * time.Second); k.set("b", course{takes: rtt}) }()
		host, took, err := k.dial(t.Context())
		require.NoError(t, err)
		assert.Equal(t, "b", host)
		assert.Less(t, took, 4*time.Second)
		t.Log(took, k.asked)
	})
}

func TestAWrongPasswordIsTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTrack(t, "any", course{takes: rtt, err: errWrongPassword}, course{takes: rtt})
		_, took, err := k.dial(t.Context())
		require.ErrorIs(t, err, errWrongPassword)
		assert.Equal(t, rtt, took)
		assert.Equal(t, hosts.Unknown, k.stateOf(0), "the host isn't to blame")
		assert.Len(t, k.asked, 1)
	})
}

func TestTheEndOfADialsContextEndsAllLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTrack(t, "any", course{takes: forever}, course{takes: forever})
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		_, took, err := k.dial(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Len(t, err, 2)
		assert.Equal(t, 500*time.Millisecond, took)
		synctest.Wait()
		assert.Equal(t, hosts.Unknown, k.stateOf(0))
	})
}

func TestOneDialAsksAllHostsAndTheOthersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTrack(t, "any", course{takes: forever}, course{takes: forever}, course{takes: 300 * time.Millisecond})
		for _, h := range k.hosts.Hosts() {
			h.Fails(errors.New("gone"))
		}
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				host, took, err := k.dial(t.Context())
				assert.NoError(t, err)
				assert.Equal(t, "c", host)
				assert.LessOrEqual(t, took, 600*time.Millisecond)
			})
		}
		all.Wait()
		assert.ElementsMatch(t, []string{"a 0s", "b 0s", "c 0s"}, k.asked[:3], "at once")
		assert.Len(t, k.asked, 3+19)
		time.Sleep(timeout)
	})
}

func TestADialThatWaitsForAnotherHasItsErrorUnlessThatIsTheOthersOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTrack(t, "any", refused(), course{takes: forever})
		for _, h := range k.hosts.Hosts() {
			h.Fails(errors.New("gone"))
		}
		impatient, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() {
			_, _, err := k.dial(impatient)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
		})
		synctest.Wait()
		for range 3 {
			all.Go(func() {
				_, took, err := k.dial(t.Context())
				assert.ErrorContains(t, err, "refused")
				assert.Equal(t, 5*time.Second+timeout, took)
			})
		}
		all.Wait()
		assert.ElementsMatch(t, []string{"a 0s", "b 0s"}, k.asked[:2])
		assert.Equal(t, 2, strings.Count(strings.Join(k.asked, ","), "b"), "one asks after the other")
	})
}

// TestRacesUnderStress has many dials while hosts come, go, fall silent and change their roles. Each must end in its time, with a
// connection to a host that is what is wanted, or with an error; what it leaves behind must end too, which synctest sees to.
func TestRacesUnderStress(t *testing.T) {
	for _, attrs := range []string{"any", "read-write", "prefer-standby"} {
		synctest.Test(t, func(t *testing.T) {
			k := newTrack(t, attrs, make([]course, 4)...)
			chance := func() course {
				return []course{
					{takes: rand.N(2 * headStart)}, {takes: rand.N(2 * headStart), role: hosts.Standby}, refused(), {takes: forever},
					{takes: rand.N(3 * time.Second)},
				}[rand.N(5)]
			}
			var all sync.WaitGroup
			for i := range 300 {
				time.Sleep(rand.N(50 * time.Millisecond))
				k.set(string(rune('a'+i%4)), chance())
				all.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), rand.N(40*time.Second))
					defer cancel()
					_, took, err := k.dial(ctx)
					assert.LessOrEqual(t, took, k.Limit())
					if err != nil {
						assert.NotEmpty(t, err.Error())
						assert.NotErrorIs(t, err, errLost)
					}
				})
			}
			all.Wait()
			time.Sleep(timeout) // those that were left behind
			synctest.Wait()
			assert.Empty(t, k.paths.slow)
		})
	}
}
