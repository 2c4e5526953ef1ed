package conventions

import (
	"regexp"
	"strings"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// maxSummary is the longest db.query.summary.
const maxSummary = 255

// sqlState is what SQLSTATEs look like.
var sqlState = regexp.MustCompile(`^[0-9A-Z]{5}$`)

// checkSpan applies the rules for spans. A span that is neither of the kind CLIENT nor says anything of a database is the
// library's own; only its names are looked at.
func (c *Checker) checkSpan(found Findings, r *Record, s sdktrace.ReadOnlySpan) {
	const where = "spans"
	all := attributesOf(s.Attributes())
	c.checkScope(found, where, s.InstrumentationScope().Version)
	c.checkEvents(found, where, s)
	if !ofDatabase(s, all) {
		c.checkNames(found, where, all, nil)
		return
	}
	c.checkNames(found, where, all, spanAttributes)
	checkLevels(found, where, all, spanAttributes)
	c.checkServer(found, where, all)
	if s.SpanKind() != trace.SpanKindClient {
		found.add(where, "the kind is %v, not client", s.SpanKind())
	}
	if !c.mayBeCalled(s.Name(), all) {
		found.add(where, "the name is neither the summary, nor made of operation and target")
	}
	c.checkText(found, where, all)
	checkFailure(found, where, s, all)
	checkBatch(found, where, all)
	for _, name := range atCreation {
		if all.has(name) && !r.hadAtCreation(s, name) {
			found.add(where, "%s is not given at creation, for samplers", name)
		}
	}
}

// ofDatabase reports whether a span is one of a database's client, or would be one if it were right.
func ofDatabase(s sdktrace.ReadOnlySpan, all attributes) bool {
	for name := range all {
		if strings.HasPrefix(name, "db.") && !strings.HasPrefix(name, "db.client.") {
			return true
		}
	}
	return s.SpanKind() == trace.SpanKindClient
}

// checkScope wants the scope to have a version.
func (c *Checker) checkScope(found Findings, where, version string) {
	if version == "" {
		found.add(where, "the scope has no version")
	}
}

// checkEvents looks at a span's events: those for exceptions are deprecated.
func (c *Checker) checkEvents(found Findings, where string, s sdktrace.ReadOnlySpan) {
	for _, event := range s.Events() {
		if event.Name == "exception" {
			found.add(where, "there is an event for an exception, which is deprecated")
			continue
		}
		c.checkNames(found, where, attributesOf(event.Attributes), nil)
	}
}

// mayBeCalled reports whether a span may have a name: the summary; without one, operation and target, or the target alone, or
// the system.
func (c *Checker) mayBeCalled(name string, all attributes) bool {
	if summary := all.text("db.query.summary"); summary != "" {
		return name == summary
	}
	targets := []string{all.text("db.collection.name"), all.text("db.stored_procedure.name"), all.text("db.namespace"), all.text("server.address")}
	if address, port := all.text("server.address"), all.text("server.port"); port != "" {
		targets[3] = address + ":" + port
	}
	operation := all.text("db.operation.name")
	for _, target := range targets {
		if target == "" {
			continue
		}
		if operation != "" {
			return name == operation+" "+target
		}
		return name == target
	}
	return name == "postgresql" || name == operation
}

// checkText looks at what is said of the statement.
func (c *Checker) checkText(found Findings, where string, all attributes) {
	text, summary := all.text("db.query.text"), all.text("db.query.summary")
	for name, value := range all {
		for _, secret := range c.Secrets {
			if strings.Contains(value.String(), secret) {
				found.add(where, "%s has a literal or a parameter of the statement", name)
			}
		}
	}
	before, rest, _ := strings.Cut(c.Mixed, "'")
	_, after, _ := strings.Cut(rest, "'")
	if text != c.Mixed && strings.HasPrefix(text, before) && strings.HasSuffix(text, after) {
		found.add(where, "db.query.text is sanitised although it has parameters")
	}
	if len(summary) > maxSummary {
		found.add(where, "db.query.summary is longer than %d", maxSummary)
	}
	for _, name := range []string{"db.operation.name", "db.collection.name"} {
		if text != "" && all.has(name) {
			found.add(where, "%s is taken from the text", name)
		}
	}
}

// checkFailure compares the status with what is said of the error.
func checkFailure(found Findings, where string, s sdktrace.ReadOnlySpan, all attributes) {
	failed, kind, code := s.Status().Code == codes.Error, all.text("error.type"), all.text("db.response.status_code")
	switch {
	case failed && kind == "":
		found.add(where, "error.type is missing, which is required if the operation failed")
	case !failed && kind != "":
		found.add(where, "error.type is given, but the status is %v", s.Status().Code)
	case sqlState.MatchString(kind) && code == "":
		found.add(where, "db.response.status_code is missing, which is required if the server reported the error")
	case code != "" && kind != "" && code != kind:
		found.add(where, "error.type isn't the status code")
	}
	if s.Status().Code == codes.Ok {
		found.add(where, "the status is Ok, which is the application's to say")
	}
}

// checkBatch looks at the size of a batch.
func checkBatch(found Findings, where string, all attributes) {
	size := all.text("db.operation.batch.size")
	if size == "1" {
		found.add(where, "db.operation.batch.size is 1")
	}
	if batch := strings.HasPrefix(all.text("db.query.summary"), "BATCH"); size != "" && !batch {
		found.add(where, "db.query.summary of a batch doesn't begin with BATCH")
	}
}
