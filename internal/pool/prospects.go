package pool

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

// A prospect is what there is to hope for after a dial that failed.
type prospect int

const (
	final    prospect = iota // it will fail in the same way: callers are told at once
	doubtful                 // it may pass: callers are told if it goes on for a while
	passing                  // time heals it: callers wait
)

// prospectOf judges the failure of a dial. Where several hosts were tried, that which has the best prospect counts.
// rereadsPassword says that the next dial may log in with another password.
func prospectOf(err error, rereadsPassword bool) prospect {
	var password *passwordError
	if errors.As(err, &password) {
		return passing
	}
	refused := allRefusals(err)
	if len(refused) == 0 {
		return prospectOfTLS(err)
	}
	if hasNetworkError(err) {
		return passing
	}
	best := final
	for _, pg := range refused {
		best = max(best, prospectOfRefusal(pg, rereadsPassword))
	}
	return best
}

// allRefusals are the answers of all servers that were tried.
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
func prospectOfTLS(err error) prospect {
	var (
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
		verify  *tls.CertificateVerificationError
	)
	if errors.As(err, &verify) || errors.As(err, &unknown) || errors.As(err, &host) || errors.As(err, &invalid) ||
		strings.Contains(err.Error(), "server refused TLS connection") {
		return final
	}
	return passing
}

// prospectOfRefusal judges what the server, or a pooler before it, said. Starting up, shutting down, too many clients and
// the like pass. An internal error or a failure of the system may be a moment's; Supabase's pooler says XX000 for a tenant
// that it doesn't know, which stays so. A role that is refused is worth another try where its password is read anew.
func prospectOfRefusal(err *pgconn.PgError, rereadsPassword bool) prospect {
	switch class := err.Code[:min(2, len(err.Code))]; {
	case class == "57", class == "53":
		return passing
	case class == "58", class == "XX", class == "28" && rereadsPassword:
		return doubtful
	case err.Code == "08P01":
		return prospectOfPooler(err.Message)
	case class == "08":
		return passing
	}
	return final
}

// healing is in what PgBouncer says when its server, or room for another client, is missing for the time being.
var healing = []string{
	"server login", "server conn", "server closed", "cannot connect", "connect failed", "timeout", "no more connections",
	"too many", "starting up", "shut", "paused", "suspend", "no memory", "try again",
}

// prospectOfPooler judges a protocol violation, which is PgBouncer's SQLSTATE for almost everything. A parameter that it
// doesn't know stays unknown; a database or a user that it doesn't know, or a wrong password, is told when it goes on.
func prospectOfPooler(message string) prospect {
	if _, _, refused := poolersRefusal(message); refused {
		return final
	}
	message = strings.ToLower(message)
	if slices.ContainsFunc(healing, func(part string) bool { return strings.Contains(message, part) }) {
		return passing
	}
	return doubtful
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

// doubts are the dials in a row that failed in the same doubtful way. It is safe for concurrent use.
type doubts struct {
	mu    sync.Mutex // guards what follows
	code  string     // SQLSTATE; "": the last dial didn't fail in a doubtful way
	tries int
	since time.Time // the first
	last  time.Time
}

// isFinal notes a failure and reports whether there is no use in trying again.
func (d *doubts) isFinal(err error, rereadsPassword bool, now time.Time) bool {
	switch prospectOf(err, rereadsPassword) {
	case final:
		return true
	case doubtful:
		return d.lasts(allRefusals(err)[0].Code, now)
	}
	d.end()
	return false
}

// lasts notes a doubtful failure and reports whether such have gone on for long enough.
func (d *doubts) lasts(code string, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if code != d.code || now.Sub(d.last) > doubtForgotten {
		d.code, d.tries, d.since = code, 0, now
	}
	d.tries++
	d.last = now
	return d.tries >= doubtTries && now.Sub(d.since) >= doubtFor
}

// end is called when a dial succeeds, or fails in a way that passes.
func (d *doubts) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.code = ""
}
