package faulttest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	osexec "os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// pausedDSN is the variable with the database of a program that is stopped and goes on; see paused.
const pausedDSN = "PGPROD_TEST_PAUSED_DSN"

// paused is a program whose statements take several times dead_after. It returns its exit code.
func paused(dsn string) int {
	db, err := pgprod.Open(dsn, quiet, pgprod.WithCommandTimeout(0))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer db.Close()
	var all sync.WaitGroup
	errs := make(chan error, 4) // has room for all
	for range cap(errs) {
		all.Go(func() {
			_, err := db.Exec("select pg_sleep(8)")
			errs <- err
		})
	}
	all.Wait()
	close(errs)
	code := 0
	for err := range errs {
		if err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	return code
}

// TestAProgramThatIsStoppedTakesNobodyForDead stops a program again and again, at any moment of its questions to the server.
func TestAProgramThatIsStoppedTakesNobodyForDead(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	proxy.SetLatency(faultproxy.ToClient, 200*time.Millisecond) // so that most moments are those of a question
	program := osexec.Command(os.Args[0])
	program.Env = append(os.Environ(), pausedDSN+"="+proxy.DSN())
	var output bytes.Buffer
	program.Stdout, program.Stderr = &output, &output
	require.NoError(t, program.Start())
	done := make(chan error, 1)
	go func() { done <- program.Wait() }() // ends with the program
	times := 0
	for {
		select {
		case err := <-done:
			assert.NoError(t, err, output.String())
			t.Logf("it was stopped %d times", times)
			return
		case <-time.After(rand.N(600 * time.Millisecond)):
		}
		_ = program.Process.Signal(syscall.SIGSTOP)
		<-time.After(rand.N(2500 * time.Millisecond))
		_ = program.Process.Signal(syscall.SIGCONT)
		times++
	}
}
