package debugpage

import (
	"fmt"
	"hash/fnv"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/pgprod/pgprod/internal/activity"
)

// functions are the functions that the templates call.
var functions = template.FuncMap{
	"count":    count[int],
	"count64":  count[int64],
	"duration": duration,
	"percent":  percent,
	"ago":      ago,
	"clip":     activity.Shorten,
	"changed":  changed,

	"breakable": breakable,
	"key":       key,
	"plural":    plural[int],
	"inc":       func(n int) int { return n + 1 },
}

// thin is a narrow no-break space, between thousands and before units.
const thin = "\u202f"

// count writes 12345 as 12 345.
func count[T int | int64](n T) string {
	s := strconv.FormatInt(int64(n), 10)
	sign := ""
	if s[0] == '-' {
		sign, s = "−", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + thin + s[i:]
	}
	return sign + s
}

// plural is a count and a noun: "1 caller", "2 callers".
func plural[T int | int64](n T, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return count(n) + " " + noun
}

// percent writes 0.934 as 93 %. It doesn't round up to 100 %, nor down to 0 %.
func percent(f float64) string {
	switch n := math.Round(100 * f); {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return "–"
	case n == 100 && f < 1:
		return "99" + thin + "%"
	case n == 0 && f > 0:
		return "<1" + thin + "%"
	default:
		return strconv.FormatFloat(n, 'f', 0, 64) + thin + "%"
	}
}

// duration writes a duration with up to three digits and a unit, and from a minute on with two units.
func duration(d time.Duration) string {
	switch {
	case d < 0:
		return "0" + thin + "s"
	case d < time.Microsecond:
		return fmt.Sprintf("%d"+thin+"ns", d)
	case d < 999500:
		return digits(float64(d)/1e3) + thin + "µs"
	case d < 999500*time.Microsecond:
		return digits(float64(d)/1e6) + thin + "ms"
	case d < 59500*time.Millisecond:
		return digits(d.Seconds()) + thin + "s"
	case d < time.Hour:
		return pair(d.Round(time.Second), time.Minute, "min", time.Second, "s")
	case d < 48*time.Hour:
		return pair(d.Round(time.Minute), time.Hour, "h", time.Minute, "min")
	default:
		return pair(d.Round(time.Hour), 24*time.Hour, "d", time.Hour, "h")
	}
}

// digits is a number with one decimal if it is below ten, else with none.
func digits(f float64) string {
	if f < 9.95 {
		return strings.TrimSuffix(strconv.FormatFloat(f, 'f', 1, 64), ".0")
	}
	return strconv.FormatFloat(f, 'f', 0, 64)
}

// pair writes a duration in two units, a big and a small one.
func pair(d, big time.Duration, bigUnit string, small time.Duration, smallUnit string) string {
	s := fmt.Sprintf("%d"+thin+"%s", d/big, bigUnit)
	if rest := d % big / small; rest > 0 {
		s += fmt.Sprintf(" %d"+thin+"%s", rest, smallUnit)
	}
	return s
}

// ago is how long before now t was.
func ago(now, t time.Time) string {
	switch age := now.Sub(t); {
	case age < time.Second:
		return "just now"
	case age < time.Minute:
		return fmt.Sprintf("%d"+thin+"s ago", age/time.Second)
	default:
		return duration(age.Truncate(time.Second)) + " ago"
	}
}

// breakable is a text without spaces, such as a list of settings, in which lines may break after commas and equals signs.
func breakable(s string) template.HTML {
	s = template.HTMLEscapeString(s)
	return template.HTML(strings.NewReplacer(",", ",<wbr>", "=", "=<wbr>").Replace(s))
}

// key is a short key for an element, by which the script finds it again in the next version of the page.
func key(s string) string {
	h := fnv.New64a()
	h.Write([]byte(s)) // never fails
	return strconv.FormatUint(h.Sum64(), 36)
}
