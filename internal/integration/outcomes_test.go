package integration

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var outcomeRounds = flag.Int("outcomes", 1, "how many rounds of each fault TestEveryOutcomeIsKnown has")

// TestEveryOutcomeIsKnown shows what a program is told while its database breaks, and whether that is true. In each round a
// fault befalls a server, or a pair of them, while crews of sixteen workers write and read: with pgprod, and beside it with
// pgx, pgxpool and cockroach-go. Afterwards the tables are compared with what the workers were told. pgprod promises that
// nothing is there twice, that nothing which was acknowledged is missing, and that nothing is there of which an error says
// that it was not done. It also promises that there are no errors but those that say that the outcome is unknown, and none at
// all where the server says goodbye, or where a caller has asked for that by TxOnce or ContextRepeatable.
//
// The others are held to nothing, the figures are logged. For those in the manual each fault had many rounds:
//
//	go test -v -run EveryOutcome -outcomes 20 -timeout 0 .
//	go test -v -run 'EveryOutcome/switchover' -outcomes 100 -timeout 0 .
func TestEveryOutcomeIsKnown(t *testing.T) {
	var all []total
	for _, f := range outcomeFaults {
		t.Run(f.name, func(t *testing.T) {
			totals := make([]total, len(outcomeClients))
			for i := range totals {
				totals[i].texts = map[string]int{}
			}
			for n := range *outcomeRounds {
				t.Run(strconv.Itoa(n+1), func(t *testing.T) { f.round(t, totals) }) // which ends its servers and pools
			}
			all = append(all, totals...)
		})
	}
	t.Logf("%d rounds each, %d workers each\n%s\n%s", *outcomeRounds, crewSize, outcomeTable(all), outcomeErrors(all))
}

// round has one fault befall all clients at once, and adds what became of their calls to totals.
func (f outcomeFault) round(t *testing.T, totals []total) {
	stage := f.set(t)
	var crews []*crew
	leaving := make(chan struct{})
	for _, c := range outcomeClients {
		crews = append(crews, startCrew(t, c, stage, f.proxied, leaving))
	}
	awaitCalls(t, crews, 5)
	f.inflict(t, stage, crews)
	awaitCalls(t, crews, 5)
	close(leaving)
	for _, c := range crews {
		c.end(t)
	}
	stage.awaitNobody(t)

	hit := 0
	for i, c := range crews {
		tally := c.tally(t, stage)
		totals[i].add(f, c, tally)
		if !c.pgprod {
			hit += tally.errors
			continue
		}
		assert.Zero(t, tally.doubled, "%s: there twice", c.name)
		assert.Zero(t, tally.lost, "%s: acknowledged, and not there", c.name)
		assert.Zero(t, tally.wrong, "%s: denied, and there, or half of it", c.name)
		assert.Equal(t, tally.unknown, tally.errors, "%s: what hasn't run is tried again, errors are of what isn't known", c.name)
		if f.announced || c.certain {
			assert.Zero(t, tally.errors, c.name)
		}
	}
	require.Positive(t, hit, "the fault was felt by somebody")
}

// A total is a row of the table: the sum of a client's tallies in all rounds of a fault.
type total struct {
	fault, client string
	pgprod        bool
	tally
	texts map[string]int // how often which error came
}

func (sum *total) add(f outcomeFault, c *crew, t tally) {
	sum.fault, sum.client, sum.pgprod = f.name, c.name, c.pgprod
	c.countErrors(sum.texts)
	sum.calls += t.calls
	sum.errors += t.errors
	sum.unknown += t.unknown
	sum.doubled += t.doubled
	sum.lost += t.lost
	sum.wrong += t.wrong
	sum.longest = max(sum.longest, t.longest)
}

func outcomeTable(totals []total) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', tabwriter.Debug)
	fmt.Fprintln(w, "fault\tclient\tcalls\terrors\tunknown\tdoubled\tlost\twrongly told\tlongest without success")
	for _, sum := range totals {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", sum.fault, sum.client, sum.calls, sum.errors, sum.unknown,
			sum.doubled, sum.lost, sum.wrong, sum.longest.Round(time.Millisecond))
	}
	_ = w.Flush()
	return b.String()
}

// outcomeErrors lists the errors of pgprod.
func outcomeErrors(totals []total) string {
	var b strings.Builder
	for _, sum := range totals {
		if !sum.pgprod {
			continue
		}
		for _, text := range slices.Sorted(maps.Keys(sum.texts)) {
			fmt.Fprintf(&b, "%s, %s: %d × %s\n", sum.fault, sum.client, sum.texts[text], text)
		}
	}
	return b.String()
}
