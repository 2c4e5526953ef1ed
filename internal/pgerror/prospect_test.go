package pgerror

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
)

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
