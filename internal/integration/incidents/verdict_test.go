package incidents

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// A result is what became of an incident: a tally and a line of each client.
type result struct {
	what    incident
	tallies []tally
}

// A tally counts the rounds of one client's.
type tally struct {
	client string
	right  int // it has named the cause
	silent int // it has not, and said nothing that is wrong
	wrong  int
	line   string // what it told in the last round
}

// judge makes the incident for each client, as often as it has rounds.
func (what incident) judge(t *testing.T, server *pgtest.Server, bouncer *pgtest.Bouncer) (r result) {
	r.what = what
	direct, dsn := what.database(t, server, bouncer)
	for _, c := range clients {
		sum := tally{client: c.name}
		for n := range *rounds {
			t.Run(fmt.Sprint(c.name, n+1), func(t *testing.T) { // which closes what it opens
				s := newScene(t, c, direct, c.dsnFor(dsn, what.pooled), what.size)
				sum.add(what, c, s, what.befall(s))
			})
		}
		if c.ours {
			assert.Equal(t, *rounds, sum.right+sum.silent+sum.wrong)
			assert.Zero(t, sum.wrong, "wrongly told: %s", sum.line)
			assert.True(t, what.also != "" || sum.right == *rounds, "not named each time; in the end: %s", sum.line)
		}
		r.tallies = append(r.tallies, sum)
	}
	return r
}

// database makes a database, and returns the DSN of the server, and that by which the clients come.
func (what incident) database(t *testing.T, server *pgtest.Server, bouncer *pgtest.Bouncer) (direct, clients string) {
	if !what.pooled {
		direct = server.NewDatabase(t)
		return direct, direct
	}
	const name = "pooled" // not by NewDatabase, which waits until nobody is connected: PgBouncer keeps its connections
	require.NoError(t, server.Exec(t.Context(), "create database "+name))
	return server.DSN(name), bouncer.DSN(name)
}

// add adds a round: is is a pattern for what is right.
func (sum *tally) add(what incident, c client, s *scene, is string) {
	sum.line = s.told.line()
	if !c.ours {
		if regexp.MustCompile(cmp.Or(what.others, is)).MatchString(sum.line) {
			sum.right++
		} else {
			sum.silent++
		}
		return
	}
	causes := s.told.causes(s.T)
	missed := false
	for _, cause := range append(causes, s.seen...) {
		switch {
		case regexp.MustCompile("^" + is + "$").MatchString(cause):
			// It is right.
		case what.also != "" && regexp.MustCompile("^"+what.also+"$").MatchString(cause):
			missed = true
		default:
			sum.wrong++
			require.Fail(s, "wrongly told", "%s: said %q, right is %q", what.name, cause, is)
		}
	}
	if len(causes) > 0 {
		sum.line = causes[0]
	}
	if len(causes) > 0 && !missed {
		sum.right++
	} else {
		sum.silent++
	}
}

// table has a line for each incident with pgprod's tally, and then what each client has told.
func table(results []result) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', tabwriter.Debug)
	fmt.Fprintln(w, "incident\tclient\tnamed\tnot named\twrong")
	for _, r := range results {
		for _, sum := range r.tallies {
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\n", r.what.name, sum.client, sum.right, sum.silent, sum.wrong)
		}
	}
	_ = w.Flush()
	for _, r := range results {
		if len(r.tallies) == 0 { // -run has left it out
			continue
		}
		fmt.Fprintf(&b, "\n%s\n", r.what.name)
		for _, sum := range r.tallies {
			fmt.Fprintf(&b, "  %s: %s\n", sum.client, sum.line)
		}
	}
	return b.String()
}
