package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// report is all that a run found out.
type report struct {
	options options
	server  string // its version
	date    time.Time
	took    time.Duration
	series  []*series
	harness sample  // what the workers themselves cost
	memory  *memory // nil: not asked for
	long    []longRun
}

func newReport(o options, s *server) *report {
	return &report{options: o, server: s.version, date: time.Now()}
}

func (r *report) add(all []*series) { r.series = append(r.series, all...) }

// find returns nil where the series was not measured.
func (r *report) find(workload, peer, level string) *series {
	for _, s := range r.series {
		if s.workload.name == workload && s.who.peer.name == peer && s.who.level == level {
			return s
		}
	}
	return nil
}

// baseOf is what a series is held against; nil where that was not measured.
func (r *report) baseOf(s *series) *series { return r.find(s.workload.name, base, none) }

// writeFiles writes everything to dir.
func (r *report) writeFiles(dir string) error {
	for name, write := range map[string]func(*os.File) error{
		"results.csv": func(f *os.File) error { return r.writeCSV(f) },
		"results.svg": func(f *os.File) error { return writeSVG(f, r.panels()) },
		"RESULTS.md":  func(f *os.File) error { return r.writeMarkdown(f) },
	} {
		if err := writeFile(filepath.Join(dir, name), write); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(path string, write func(*os.File) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = write(f)
	if errClose := f.Close(); err == nil {
		err = errClose
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// facts are what the figures depend on.
func (r *report) facts() [][2]string {
	return [][2]string{
		{"date", r.date.UTC().Format("2006-01-02 15:04 UTC")},
		{"command", "`" + strings.TrimSpace(r.options.line) + "`, " + r.took.Round(time.Second).String()},
		{"machine", fmt.Sprintf("%s, %d CPUs, GOMAXPROCS %d, %s/%s", processor(), runtime.NumCPU(), runtime.GOMAXPROCS(0), runtime.GOOS, runtime.GOARCH)},
		{"Go", runtime.Version()},
		{"PostgreSQL", r.server + ", on the same machine, unix socket, fsync off"},
		{"peers", strings.Join(versions(), ", ")},
	}
}

// processor names the CPU.
func processor() string {
	info, _ := os.ReadFile("/proc/cpuinfo") // there is none on macOS
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	if out, err := exec.Command("sysctl", "-n", "machdep.cpu.brand_string").Output(); err == nil {
		return strings.TrimSpace(string(out))
	}
	return "unknown CPU"
}

// versions are those of the peers' modules.
func versions() []string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	var all []string
	for _, dep := range info.Deps {
		for _, module := range []string{"jackc/pgx/", "lib/pq", "otelsql", "otelpgx", "opentelemetry.io/otel/sdk"} {
			if strings.Contains(dep.Path, module) {
				all = append(all, dep.Path+" "+dep.Version)
				break
			}
		}
	}
	return all
}

// joinArgs writes arguments as a shell would read them.
func joinArgs(args []string) string {
	quoted := make([]string, len(args))
	for i, arg := range args {
		quoted[i] = arg
		if strings.ContainsAny(arg, " |*?$^()[]\\\"") {
			quoted[i] = "'" + arg + "'"
		}
	}
	return strings.Join(quoted, " ")
}
