package oracle

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pgprod/pgprod/internal/docs"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// Without flags the programs are the same each time: a change must not fail for what another seed would have found before.
const (
	usually    = 300
	usualSeed  = "2"
	seedOfTime = "0"
)

var programs = flag.Int("programs", usually, "how many programs are drawn and run on both drivers; with it, the seed is a new one each time")

func TestMain(m *testing.M) {
	flag.Parse()
	set("rapid.checks", fmt.Sprint(*programs))
	set("rapid.nofailfile", "true")
	if seed := flag.Lookup("rapid.seed").Value.String(); *programs == usually && seed == seedOfTime {
		set("rapid.seed", usualSeed)
	}
	os.Exit(pgtest.Main(m))
}

func set(name, value string) {
	if err := flag.Set(name, value); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

func TestAProgramIsAnsweredAsByPgx(t *testing.T) {
	o := newOracle(t)
	var first sync.Once
	rapid.Check(t, func(rt *rapid.T) {
		p := aProgram.Draw(rt, "program")
		difference := o.run(p)
		if difference == "" {
			return
		}
		first.Do(func() { t.Logf("as it was drawn (it will be shrunk):\n%s", difference) })
		rt.Logf("%s\n%s", p.setup(), difference)
		rt.Fatal("pgx and pgprod answer differently") // in the same words each time, by which rapid knows that it is the same
	})
	t.Log(o.figures())
}

// figures are how often what was met.
func (o *oracle) figures() string {
	var lines []string
	for _, counts := range []map[string]int{o.seen, o.met} {
		var part []string
		for name, n := range counts {
			part = append(part, fmt.Sprintf("%7d  %s", n, name))
		}
		slices.Sort(part)
		lines = append(lines, part...)
	}
	return "\n" + strings.Join(lines, "\n")
}

// Each row of the table is there for a reason that still holds, and rests on what the manual says.
func TestEachDifferenceIsMetByItsExampleAndPromisedByTheManual(t *testing.T) {
	manual, err := docs.Manual()
	require.NoError(t, err)
	text := strings.Join(strings.Fields(manual), " ")
	o := newOracle(t)
	for _, d := range differences {
		assert.Contains(t, text, strings.Join(strings.Fields(d.manual), " "), d.name)
		assert.NotEmpty(t, d.manual, d.name)
		before := o.met[d.name]
		d.example.conns = cmp.Or(d.example.conns, 3)
		d.example.mode = cmp.Or(d.example.mode, modes[0])
		d.example.riders = cmp.Or(d.example.riders, allRiders[0])
		assert.Empty(t, o.run(d.example), d.name)
		assert.Greater(t, o.met[d.name], before, d.name)
	}
}
