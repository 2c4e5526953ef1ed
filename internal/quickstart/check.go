package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/pgprod/pgprod/internal/doctor"
	"github.com/pgprod/pgprod/internal/settings"
)

// runCheck is the mode -check: it looks at the database that the environment names, and returns the exit status. It starts
// no server and works on no table.
func runCheck(ctx context.Context, o options, out *terminal, errOut io.Writer) int {
	how := doctor.Options{Environ: os.Environ(), Code: settings.Values{Profile: &o.profile}, Instances: o.instances,
		Wait: o.wait, Waiting: waiting(errOut)}
	if !o.json {
		how.Show = func(l doctor.Line) { out.printf("%s\n", l) }
	}
	report := doctor.Examine(ctx, how)
	if o.json {
		text, err := json.MarshalIndent(report, "", "  ")
		if err != nil {
			_, _ = fmt.Fprintln(errOut, "quickstart:", err)
			return 1
		}
		out.printf("%s\n", text)
	}
	return report.ExitStatus
}

// waiting returns a function that says what is waited for, each reason once.
func waiting(errOut io.Writer) func(string) {
	last := ""
	return func(why string) {
		if why != last {
			_, _ = fmt.Fprintf(errOut, "%s waiting: %s\n", time.Now().Format(time.TimeOnly), why)
		}
		last = why
	}
}
