// Command fetch downloads a PostgreSQL server with the library embedded-postgres: fetch DIRECTORY [REPOSITORY-URL].
// Package pgtest runs it where it finds no server installed. It is a module of its own, so that the library and what it
// imports are no requirement of pgprod.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

func main() {
	syscall.Umask(0o022) // the account that runs the server may be another one
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: fetch DIRECTORY [REPOSITORY-URL]")
		os.Exit(2)
	}
	if err := fetch(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// fetch downloads a server beside dir and moves it there in one step, so that dir is either whole or not there.
func fetch(dir string, repository []string) error {
	staging, err := os.MkdirTemp(filepath.Dir(dir), "staging-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(staging) }()
	// The library leaves its log in the temporary directory.
	if err := os.Setenv("TMPDIR", staging); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	server := filepath.Join(staging, "server")
	config := embeddedpostgres.DefaultConfig().
		BinariesPath(server).
		CachePath(staging).
		RuntimePath(filepath.Join(staging, "run")).
		DataPath(filepath.Join(staging, "data")).
		Port(port).
		Logger(io.Discard)
	if len(repository) > 0 {
		config = config.BinaryRepositoryURL(repository[0])
	}
	if err := unpack(config, server); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(server, dir)
}

// freePort is one for the server that must not get far.
func freePort() (uint32, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return uint32(listener.Addr().(*net.TCPAddr).Port), nil
}

// unpack makes the library download and unpack its server. It has no function for that alone: it goes on to start the
// server, which must fail for root and doesn't matter for others.
func unpack(config embeddedpostgres.Config, dir string) error {
	database := embeddedpostgres.NewDatabase(config)
	err := database.Start()
	if err == nil {
		err = database.Stop()
	}
	if _, missing := os.Stat(filepath.Join(dir, "bin", "postgres")); missing != nil {
		return errors.Join(err, missing)
	}
	return nil
}
