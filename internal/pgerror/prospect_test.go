package pgerror

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
)

func TestARefusedLoginIsToldFromOtherRefusals(t *testing.T) {
	for _, err := range []error{
		&pgconn.PgError{Code: "28P01"}, &pgconn.PgError{Code: "28000"},
		fmt.Errorf("failed to connect: %w", &pgconn.PgError{Code: "28P01"}),
		&pgconn.PgError{Code: "08P01", Message: "SASL authentication failed"}, // PgBouncer's
		errors.New("failed to connect: OAuth authentication failed: invalid_token"),
	} {
		assert.True(t, RefusesLogin(err), err)
		assert.Equal(t, Doubtful, ProspectOf(err, true), err)
	}
	for _, err := range []error{
		&pgconn.PgError{Code: "3D000"}, &pgconn.PgError{Code: "53300"}, &pgconn.PgError{Code: "08P01", Message: "no such database"},
		context.DeadlineExceeded,
	} {
		assert.False(t, RefusesLogin(err), err)
	}
	assert.Equal(t, Final, ProspectOf(errors.New("OAuth authentication failed: invalid_token"), false))
}

func TestOfSeveralHostsTheOneWithTheBestProspectCounts(t *testing.T) {
	refused := func(code, message string) error {
		return fmt.Errorf("host: %w", &pgconn.PgError{Severity: "FATAL", Code: code, Message: message})
	}
	password, starting, internal := refused("28P01", "password"), refused("57P03", "starting up"), refused("XX000", "internal")
	unreachable := &net.OpError{Op: "dial", Err: errors.New("no route")}
	for _, c := range []struct {
		err     error
		rereads bool
		want    Prospect
	}{
		{password, false, Final},
		{password, true, Doubtful},
		{internal, false, Doubtful},
		{starting, false, Passing},
		{refused("XX000", "failed to create a backend connection"), false, Passing}, // pgpool-II's
		{errors.Join(password, starting), false, Passing},
		{errors.Join(starting, password), false, Passing},
		{errors.Join(password, internal), false, Doubtful},
		{errors.Join(password, unreachable), false, Passing},
		{unreachable, false, Passing},
	} {
		assert.Equal(t, c.want, ProspectOf(c.err, c.rereads), "%v", c.err)
	}
}

func TestADoubtBecomesFinalWhenItGoesOnAndBeginsAnewAfterAnythingElse(t *testing.T) {
	internal := &pgconn.PgError{Code: "XX000"}
	var d Doubts
	now := time.Now()
	try := func(err error, after time.Duration) bool {
		now = now.Add(after)
		return d.IsFinal(err, false, now)
	}
	assert.False(t, try(internal, 0))
	assert.False(t, try(internal, doubtFor), "long enough, but not often enough")
	assert.True(t, try(internal, 0))
	assert.True(t, try(internal, time.Second), "who comes later is told at once")
	assert.False(t, try(errors.New("connection refused"), 0))
	assert.False(t, try(internal, 0))
	assert.False(t, try(internal, doubtFor))
	assert.False(t, try(&pgconn.PgError{Code: "58030"}, 0), "another one")
	assert.False(t, try(internal, 0))
	assert.False(t, try(internal, doubtFor))
	d.End()
	assert.False(t, try(internal, 0))
	assert.False(t, try(internal, doubtFor))
	assert.False(t, try(internal, doubtForgotten+1), "an hour later it may be a moment's again")
}

func TestARefusalsProspectIsThatOfItsClass(t *testing.T) {
	t.Parallel()
	for code := range strings.FieldsSeq(everyCode) {
		want, rereading := Final, Final
		switch code[:2] {
		case "08", "53", "57":
			want, rereading = Passing, Passing
		case "58", "XX":
			want, rereading = Doubtful, Doubtful
		case "28":
			rereading = Doubtful
		}
		if code == ProtocolViolation {
			continue // a pooler's, whose text counts
		}
		pg := &pgconn.PgError{Code: code}
		assert.Equal(t, want, ProspectOf(pg, false), code)
		assert.Equal(t, rereading, ProspectOf(pg, true), code)
	}
}

func TestAPoolersProspectIsInItsText(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]Prospect{
		"server login has been failing, cached error: connect failed": Passing,
		"query_wait_timeout":                          Passing,
		"pgbouncer cannot connect to server":          Passing,
		"no more connections allowed":                 Passing,
		"The database system is starting up":          Passing,
		"no such database: d":                         Doubtful,
		"password authentication failed":              Doubtful,
		"unsupported startup parameter: jit":          Final,
		"Unsupported startup parameter in options: x": Final,
	} {
		assert.Equal(t, want, ProspectOf(&pgconn.PgError{Code: ProtocolViolation, Message: message}, false), message)
	}
}

func TestTheWrongCertificateStaysWrong(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		x509.UnknownAuthorityError{}, x509.HostnameError{Certificate: &x509.Certificate{}, Host: "a"},
		x509.CertificateInvalidError{Cert: &x509.Certificate{}}, &tls.CertificateVerificationError{Err: errors.New("expired")},
	} {
		assert.Equal(t, Final, ProspectOf(fmt.Errorf("tls: %w", err), true), "%T", err)
	}
	assert.Equal(t, Passing, ProspectOf(errors.New("tls: first record does not look like a TLS handshake"), true))
}
