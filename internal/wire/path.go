package wire

import (
	"errors"
	"syscall"
	"time"
)

// A Path is what the system knows of the way to the other end of a TCP connection.
type Path struct {
	// Tries is how often in a row the system has sent something again, or has asked whether there is room for more, or whether
	// the other end is still there, without any reply.
	Tries int
	// Silent is how long the other end's system has acknowledged nothing, be it that there is no room.
	Silent time.Duration
}

// A GivenUpError is the error of a connection that the system has ended, since nothing that it sent was acknowledged. For the system,
// and for pgx, it is a timeout. But no deadline has passed that anybody here has set: for us it is the end of the connection.
type GivenUpError struct{ text string }

func (e *GivenUpError) Error() string {
	return "the system has given the connection up, because nothing that was sent on it was acknowledged, nor keep-alive: " + e.text
}

// Is has the error match syscall.ETIMEDOUT.
func (e *GivenUpError) Is(target error) bool { return target == syscall.ETIMEDOUT }

// orGivenUp returns what is to be said in place of the error of a read or a write.
func orGivenUp(err error) error {
	if !errors.Is(err, syscall.ETIMEDOUT) {
		return err
	}
	return &GivenUpError{err.Error()}
}
