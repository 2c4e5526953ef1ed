package pgerror

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A Prospect is what there is to hope for after a dial that failed.
type Prospect int

// The prospects, the best one last.
const (
	Final    Prospect = iota // it will fail in the same way: callers are told at once
	Doubtful                 // it may pass: callers are told if it goes on for a while
	Passing                  // time heals it: callers wait
)

// ProspectOf judges the failure of a dial. Where several hosts were tried, that which has the best prospect counts.
// rereadsPassword says that the next dial may log in with another password.
func ProspectOf(err error, rereadsPassword bool) Prospect {
	refused := allRefusals(err)
	if len(refused) == 0 {
		return prospectOfTLS(err)
	}
	if hasNetworkError(err) {
		return Passing
	}
	best := Final
	for _, pg := range refused {
		best = max(best, prospectOfRefusal(pg, rereadsPassword))
	}
	return best
}

// allRefusals are the answers of all servers that were tried. From would find the first of them only.
func allRefusals(err error) []*pgconn.PgError {
	switch e := err.(type) {
	case *pgconn.PgError:
		return []*pgconn.PgError{e}
	case interface{ Unwrap() error }:
		return allRefusals(e.Unwrap())
	case interface{ Unwrap() []error }:
		var all []*pgconn.PgError
		for _, inner := range e.Unwrap() {
			all = append(all, allRefusals(inner)...)
		}
		return all
	}
	return nil
}

// prospectOfTLS judges a failure without a word of the server's: the wrong certificate stays wrong.
func prospectOfTLS(err error) Prospect {
	var (
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
		verify  *tls.CertificateVerificationError
	)
	if errors.As(err, &verify) || errors.As(err, &unknown) || errors.As(err, &host) || errors.As(err, &invalid) ||
		strings.Contains(err.Error(), refusesTLS) {
		return Final
	}
	return Passing
}

// prospectOfRefusal judges what the server, or a pooler before it, said. A role that is refused is worth another try where its
// password is read anew.
func prospectOfRefusal(err *pgconn.PgError, rereadsPassword bool) Prospect {
	switch {
	case err.Code == ProtocolViolation:
		return prospectOfPooler(err.Message)
	case rereadsPassword && badLogin.has(err):
		return Doubtful
	}
	return prospects[class(err.Code)] // Final, if it isn't there
}

var badLogin = setOf(classAuthorization)

// prospects are those of refusals, by the class of their SQLSTATE. All other classes are final.
var prospects = map[string]Prospect{
	classOperator:   Passing,  // starting up, shutting down
	classResources:  Passing,  // too many connections
	classConnection: Passing,  // a pooler has lost its server
	classSystem:     Doubtful, // a disk's failure may be a moment's
	classInternal:   Doubtful, // so may this; Supabase's pooler says it of a tenant that it doesn't know, which stays so
}

// healing is in what PgBouncer says when its server, or room for another client, is missing for the time being.
var healing = []string{
	"server login", "server conn", "server closed", "cannot connect", "connect failed", "timeout", "no more connections",
	"too many", "starting up", "shut", "paused", "suspend", "no memory", "try again",
}

// prospectOfPooler judges a protocol violation, which is PgBouncer's SQLSTATE for almost everything. A parameter that it
// doesn't know stays unknown; a database or a user that it doesn't know, or a wrong password, is told when it goes on.
func prospectOfPooler(message string) Prospect {
	if _, _, refused := poolersRefusal(message); refused {
		return Final
	}
	message = strings.ToLower(message)
	if slices.ContainsFunc(healing, func(part string) bool { return strings.Contains(message, part) }) {
		return Passing
	}
	return Doubtful
}

func hasNetworkError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op)
}

const (
	// doubtFor and doubtTries are how long, and how often at least, a dial is tried that fails in a doubtful way.
	doubtFor   = 2 * time.Second
	doubtTries = 3
	// doubtForgotten is after how long without another dial the doubt begins anew.
	doubtForgotten = 10 * time.Second
)

// Doubts count the dials in a row that failed in the same doubtful way. They are safe for concurrent use.
type Doubts struct {
	mu    sync.Mutex // guards what follows
	code  string     // SQLSTATE; "": the last dial didn't fail in a doubtful way
	tries int        // how many failed with this code
	since time.Time  // when the first of them failed
	last  time.Time  // when the last one did
}

// IsFinal notes a failure and reports whether there is no use in trying again.
func (d *Doubts) IsFinal(err error, rereadsPassword bool, now time.Time) bool {
	switch ProspectOf(err, rereadsPassword) {
	case Final:
		return true
	case Doubtful:
		return d.lasts(allRefusals(err)[0].Code, now)
	}
	d.End()
	return false
}

// lasts notes a doubtful failure and reports whether such have gone on for long enough.
func (d *Doubts) lasts(code string, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if code != d.code || now.Sub(d.last) > doubtForgotten {
		d.code, d.tries, d.since = code, 0, now
	}
	d.tries++
	d.last = now
	return d.tries >= doubtTries && now.Sub(d.since) >= doubtFor
}

// End is called when a dial succeeds, or fails in a way that passes.
func (d *Doubts) End() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.code = ""
}
