package main

import (
	"os"
	"strconv"
	"strings"
)

// cpuTime is how long this machine's processors have worked since it was booted, in ticks. It is zero where that isn't
// known.
type cpuTime struct{ busy, all int64 }

// readCPU returns the cpuTime of this moment. It is known on Linux only.
func readCPU() cpuTime {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return cpuTime{}
	}
	return parseCPU(string(text))
}

// parseCPU reads the first line of /proc/stat: cpu user nice system idle iowait irq softirq steal. What follows, guests, is
// part of user.
func parseCPU(text string) (t cpuTime) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return cpuTime{}
	}
	for i, field := range fields[1:9] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return cpuTime{}
		}
		t.all += ticks
		if i != 3 && i != 4 {
			t.busy += ticks
		}
	}
	return t
}

// share is how busy the processors were since earlier, from 0 to 1; 0 where that isn't known.
func (t cpuTime) share(earlier cpuTime) float64 {
	if t.all <= earlier.all {
		return 0
	}
	return float64(t.busy-earlier.busy) / float64(t.all-earlier.all)
}
