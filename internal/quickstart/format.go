package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// short writes a duration with two or three digits: 850µs, 4.2ms, 42ms, 1.10s, 75s.
func short(d time.Duration) string {
	switch ms := float64(d) / float64(time.Millisecond); {
	case d == 0:
		return "0"
	case d < 995*time.Microsecond:
		return fmt.Sprintf("%.0fµs", float64(d)/float64(time.Microsecond))
	case ms < 9.95:
		return fmt.Sprintf("%.1fms", ms)
	case ms < 999.5:
		return fmt.Sprintf("%.0fms", ms)
	case ms < 9_995:
		return fmt.Sprintf("%.2fs", d.Seconds())
	default:
		return fmt.Sprintf("%.0fs", d.Seconds())
	}
}

// thousands writes a number of 0 or more as 12,345,678.
func thousands(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func percent(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }

// wrap breaks text into lines of at most width.
func wrap(text string, width int) string {
	var b strings.Builder
	room := 0
	for i, word := range strings.Split(text, " ") {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
			room = width - n
		case n < room:
			b.WriteByte(' ')
			room -= n + 1
		default:
			b.WriteByte('\n')
			room = width - n
		}
		b.WriteString(word)
	}
	return b.String() + "\n"
}
