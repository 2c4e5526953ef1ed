package faultproxy

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// A message is one message of the protocol.
type message struct {
	kind byte   // its type
	raw  []byte // all of it: type, length and body
}

// body is what follows the type and the length.
func (m message) body() []byte { return m.raw[5:] }

// longest is the length of the longest message that is accepted, as in PostgreSQL itself.
const longest = 1 << 30

// readMessage reads a message: a type, a length that includes the four bytes of the length, and the body.
func readMessage(r *bufio.Reader) (message, error) {
	kind, err := r.ReadByte()
	if err != nil {
		return message{}, err
	}
	raw, err := readSized(r, []byte{kind})
	return message{kind: kind, raw: raw}, err
}

// readSized reads a length that includes its own four bytes, and the body. It returns prefix with both appended.
func readSized(r *bufio.Reader, prefix []byte) ([]byte, error) {
	head, err := r.Peek(4)
	if err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head)
	if size < 4 || size > longest {
		return nil, fmt.Errorf("faultproxy: a message of %d bytes", size)
	}
	raw := make([]byte, len(prefix)+int(size))
	copy(raw, prefix)
	_, err = io.ReadFull(r, raw[len(prefix):])
	return raw, err
}

// The codes of the messages without a type, except the startup message. They follow the length.
const (
	cancelRequest = 80877102
	sslRequest    = 80877103
	gssEncRequest = 80877104
)

// readStartup reads a message without a type: a length, a code and the rest.
func readStartup(r *bufio.Reader) (code uint32, raw []byte, err error) {
	raw, err = readSized(r, nil)
	if err == nil && len(raw) < 8 {
		err = fmt.Errorf("faultproxy: a startup message of %d bytes", len(raw))
	}
	if err != nil {
		return 0, nil, err
	}
	return binary.BigEndian.Uint32(raw[4:]), raw, nil
}

// cString returns the string at the beginning of b, which ends with a zero byte, and what follows that.
func cString(b []byte) (s string, rest []byte) {
	head, rest, _ := bytes.Cut(b, []byte{0})
	return string(head), rest
}
