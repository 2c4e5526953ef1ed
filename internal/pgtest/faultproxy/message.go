package faultproxy

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// message is one message of the protocol: kind is its type byte, raw all of it.
type message struct {
	kind byte
	raw  []byte
}

// body is what follows the type byte and the length.
func (m message) body() []byte { return m.raw[5:] }

// longest message that we believe in; PostgreSQL's own limit.
const longest = 1 << 30

// readMessage reads a type byte, a length that counts itself, and the rest.
func readMessage(r *bufio.Reader) (message, error) {
	kind, err := r.ReadByte()
	if err != nil {
		return message{}, err
	}
	raw, err := readSized(r, []byte{kind})
	return message{kind: kind, raw: raw}, err
}

// readSized reads a length that counts itself and the rest, and appends both to prefix.
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

// The messages before the typed ones: a length and one of these codes.
const (
	cancelRequest = 80877102
	sslRequest    = 80877103
	gssEncRequest = 80877104
)

// readStartup reads a message without a type byte.
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

// cString cuts a string that ends with a zero byte off the front of b.
func cString(b []byte) (s string, rest []byte) {
	head, rest, _ := bytes.Cut(b, []byte{0})
	return string(head), rest
}
