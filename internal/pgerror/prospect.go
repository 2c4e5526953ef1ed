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

// A Prospect says whether dialling may succeed later, after a dial that has failed.
type Prospect int

// These are the prospects, the best one last.
const (
	Final    Prospect = iota // the next dial will fail in the same way: waiting callers get the error at once
	Doubtful                 // the next dial may succeed: waiting callers get the error if it goes on for a while
	Passing                  // the cause will pass by itself: callers wait, while dialling goes on
)

// ProspectOf returns the prospect after a dial that failed with err. If several hosts were tried, the host with the best
// prospect counts. rereadsPassword says that the next dial may log in with another password.
func ProspectOf(err error, rereadsPassword bool) Prospect {
	refused := allRefusals(err)
	switch {
	case len(refused) == 0 && refusesToken(err):
		return prospectOfToken(rereadsPassword)
	case len(refused) == 0:
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

// allRefusals returns the errors that all servers have sent which one dial has tried. From finds only the first of them.
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

// prospectOfTLS returns the prospect after a failure in which no server has sent an error. A certificate that is wrong stays
// wrong, and so does a server without TLS; anything else passes.
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

// prospectOfRefusal returns the prospect after an error that the server, or a pooler before it, has sent. If the password is
// read anew for each dial, a login that is refused may succeed later.
func prospectOfRefusal(err *pgconn.PgError, rereadsPassword bool) Prospect {
	switch {
	case err.Code == ProtocolViolation:
		return prospectOfPooler(err.Message)
	case err.Code == InternalError && strings.Contains(err.Message, pgpoolFailsOver):
		return Passing
	case rereadsPassword && badLogin.has(err):
		return Doubtful
	}
	return prospects[class(err.Code)] // Final for a class that isn't there
}

var badLogin = setOf(classAuthorization)

// RefusesLogin reports whether a dial has failed because the server, or a pooler before it, doesn't accept the user, the
// password or the token.
func RefusesLogin(err error) bool {
	return refusesToken(err) || slices.ContainsFunc(allRefusals(err), func(pg *pgconn.PgError) bool {
		return badLogin.has(pg) ||
			pg.Code == ProtocolViolation && strings.Contains(strings.ToLower(pg.Message), "authentication failed")
	})
}

// EndsLogins reports whether a server has refused a login in such a way that nobody asks the next host, as in libpq: the password
// is wrong, the database doesn't exist, or the role may not connect to it. So does a client's certificate that is required and was
// not asked for, of which pgx has neither a type nor a value.
func EndsLogins(err error) bool {
	return err != nil && (slices.ContainsFunc(allRefusals(err), func(pg *pgconn.PgError) bool { return ending.has(pg) }) ||
		strings.Contains(err.Error(), "sslcertmode check failed"))
}

var ending = setOf(InvalidPassword, InvalidCatalogName, InsufficientPrivilege)

// BlamesHost reports whether a login has failed because of the host, so that another one may do better: it can't be reached, it
// doesn't answer, or it can't serve now. What is wrong with the user, the password or the settings is wrong everywhere. A server
// that takes no more connections goes on to serve those that it has.
func BlamesHost(err error) bool {
	return !RefusesLogin(err) && !RefusesSetting(err) && !EndsLogins(err) && !ServerIsFull(err)
}

// refusesToken reports whether the server doesn't accept the OAuth token. pgx has neither a type nor a value for this error,
// and closes the connection before the server has sent one with a SQLSTATE.
func refusesToken(err error) bool {
	return strings.Contains(err.Error(), "OAuth authentication failed: ")
}

// prospectOfToken returns the prospect after an OAuth token was refused.
func prospectOfToken(rereadsPassword bool) Prospect {
	if rereadsPassword {
		return Doubtful
	}
	return Final
}

// prospects are the prospects after a refusal, by the class of its SQLSTATE. All other classes are final.
var prospects = map[string]Prospect{
	classOperator:   Passing,  // the server is starting up or shutting down
	classResources:  Passing,  // there are too many connections
	classConnection: Passing,  // a pooler has lost its server
	classSystem:     Doubtful, // an error of input or output may be temporary
	classInternal:   Doubtful, // so may this; but Supabase's pooler also sends it for a tenant that it doesn't know
}

// pgpoolFailsOver is what pgpool-II says, as an internal error, to clients that come while a server is gone and it has not gone on
// to the next one.
const pgpoolFailsOver = "failed to create a backend connection"

// healing are parts of PgBouncer's messages for a state that will pass: its server is gone, or it has no room for another
// client.
var healing = []string{
	"server login", "server conn", "server closed", "cannot connect", "connect failed", "timeout", "no more connections",
	"too many", "starting up", "shut", "paused", "suspend", "no memory", "try again",
}

// prospectOfPooler returns the prospect after a protocol violation, which is PgBouncer's SQLSTATE for almost everything, by
// its message. A parameter that it doesn't accept is final. A database or a user that it doesn't know, or a wrong password,
// is doubtful.
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

// hasNetworkError reports whether the network failed for at least one of the hosts that were tried.
func hasNetworkError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op)
}

const (
	// doubtFor and doubtTries: a doubtful failure becomes final when it has gone on for doubtFor, in at least doubtTries dials.
	doubtFor   = 2 * time.Second
	doubtTries = 3
	// doubtForgotten: after a pause of this length without a dial, counting begins anew.
	doubtForgotten = 10 * time.Second
)

// Doubts count the dials in a row that have failed in the same doubtful way, to find out when that has to be taken for
// final. They are safe for concurrent use.
type Doubts struct {
	mu    sync.Mutex // guards what follows
	code  string     // the SQLSTATE; "": the last dial didn't fail in a doubtful way
	tries int        // how many failed with this code
	since time.Time  // when the first of them failed
	last  time.Time  // when the last one did
}

// IsFinal is called for each dial that has failed, with its error. It reports whether the next dial will fail in the same
// way, as far as the error and the dials before show.
func (d *Doubts) IsFinal(err error, rereadsPassword bool, now time.Time) bool {
	switch ProspectOf(err, rereadsPassword) {
	case Final:
		return true
	case Doubtful:
		return d.Last(codeOf(err), now)
	}
	d.End()
	return false
}

// codeOf returns what a doubtful failure is counted by.
func codeOf(err error) string {
	if all := allRefusals(err); len(all) > 0 {
		return all[0].Code
	}
	return InvalidAuthorization // an OAuth token that was refused
}

// Last notes a doubtful failure with this code, an SQLSTATE or another word for the cause, and reports whether such failures
// have gone on for so long that they are final.
func (d *Doubts) Last(code string, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if code != d.code || now.Sub(d.last) > doubtForgotten {
		d.code, d.tries, d.since = code, 0, now
	}
	d.tries++
	d.last = now
	return d.tries >= doubtTries && now.Sub(d.since) >= doubtFor
}

// End is called when a dial succeeds, or fails in another way than a doubtful one. Counting begins anew.
func (d *Doubts) End() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.code = ""
}
