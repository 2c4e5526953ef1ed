package doctor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/pgerror"
)

// trials find out by trying what works on connections that may share those of a pooler to the server. They use two, and make
// sure that the second holds the server's process that the first one has had, where the pooler allows that.
type trials struct {
	place
	a, b *session
}

// An outcome is that of one trial.
type outcome int

const (
	unclear outcome = iota // the trial could not be made, or tells nothing
	works
	fails
)

// pid asks for the server's process that serves a connection.
const pid = "select pg_backend_pid()"

// errNoTransactions is the error of a pooler in statement pooling, which refuses transactions.
var errNoTransactions = errors.New("the pooler refuses transactions")

// sharing reports whether transactions of one connection run on several of the server's processes, as in transaction
// pooling. While b is in a transaction it keeps a process for itself. If that is one of a's, or if a is served by another
// one then, they are shared.
func (t *trials) sharing(ctx context.Context) (bool, error) {
	seen := map[string]bool{}
	look := func() error {
		p, err := t.a.value(ctx, pid)
		seen[p] = true
		return err
	}
	for range 3 {
		if err := look(); err != nil {
			return false, err
		}
	}
	for range 3 {
		held, err := t.hold(ctx)
		if err != nil {
			return false, err
		}
		shared := seen[held]
		if !shared {
			err = look()
		}
		if err := errors.Join(err, t.release(ctx)); err != nil {
			return false, err
		}
		if shared || len(seen) > 1 {
			return true, nil
		}
	}
	return false, nil
}

// hold begins a transaction on b and returns its process.
func (t *trials) hold(ctx context.Context) (string, error) {
	held, err := t.b.value(ctx, "begin; "+pid)
	if pg := pgerror.From(err); pg != nil && strings.Contains(pg.Message, "statement pooling") {
		return "", errNoTransactions
	}
	return held, err
}

// release ends b's transaction.
func (t *trials) release(ctx context.Context) error {
	_, err := t.b.ask(ctx, "rollback")
	return err
}

// name is that of what a trial makes for its own time.
func name() string { return "pgprod_doctor_" + strconv.FormatUint(rand.Uint64(), 36) }

// attempts is how often a trial is made whose outcome depends on which of its connections a pooler chooses.
const attempts = 3

// prepared tries whether a statement that was prepared in one transaction can be executed in a later one, on another of the
// server's processes.
func (t *trials) prepared(ctx context.Context, shared bool) outcome {
	for range attempts {
		if o := t.preparedOnce(ctx, shared); o != unclear {
			return o
		}
	}
	return unclear
}

func (t *trials) preparedOnce(ctx context.Context, shared bool) outcome {
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	pg, statement := t.a.Pgx().PgConn(), name()
	if _, err := t.a.ask(ctx, "begin"); err != nil {
		return unclear
	}
	_, err := pg.Prepare(ctx, statement, pid, nil)
	home, err2 := execute(ctx, pg, statement)
	_, err3 := t.a.ask(ctx, "commit")
	if errors.Join(err, err2, err3) != nil {
		return unclear
	}
	held := ""
	if shared {
		if held, err = t.hold(ctx); err != nil {
			return unclear
		}
	}
	other, err := execute(ctx, pg, statement)
	if shared {
		t.forget(ctx, statement, held == home)
	}
	_ = pg.Deallocate(ctx, statement)
	switch {
	case err != nil && pgerror.HasNoSuchStatement(err):
		return fails
	case err != nil, shared && other == home:
		return unclear
	}
	return works
}

// forget releases b. If b has the process on which the statement was prepared, it removes the statement there first: a
// pooler that doesn't know of prepared statements would leave it to others. One that does has given it a name of its own.
func (t *trials) forget(ctx context.Context, statement string, home bool) {
	if home {
		_, _ = t.b.ask(ctx, "deallocate "+statement)
	}
	_ = t.release(ctx)
}

// execute executes a prepared statement that returns one value.
func execute(ctx context.Context, pg *pgconn.PgConn, statement string) (string, error) {
	result := pg.ExecPrepared(ctx, statement, nil, nil, nil).Read()
	switch {
	case result.Err != nil:
		return "", result.Err
	case len(result.Rows) == 0:
		return "", errNoValue
	}
	return string(result.Rows[0][0]), nil
}

// setLocal tries whether a setting holds until the end of its transaction, and not beyond.
func (t *trials) setLocal(ctx context.Context) outcome {
	const read = "select coalesce(current_setting('pgprod.doctor', true), '')"
	if _, err := t.a.ask(ctx, "begin; select set_config('pgprod.doctor', 'x', true)"); err != nil {
		return unclear
	}
	inside, err := t.a.value(ctx, read)
	_, err2 := t.a.ask(ctx, "rollback")
	after, err3 := t.a.value(ctx, read)
	return judge(errors.Join(err, err2, err3), inside == "x" && after == "")
}

// setSession tries whether a setting of the session holds for later statements. It is for connections that don't share.
func (t *trials) setSession(ctx context.Context) outcome {
	if _, err := t.a.ask(ctx, "select set_config('pgprod.doctor', 'x', false)"); err != nil {
		return unclear
	}
	after, err := t.a.value(ctx, "select coalesce(current_setting('pgprod.doctor', true), '')")
	_, _ = t.a.ask(ctx, "reset pgprod.doctor")
	return judge(err, after == "x")
}

// listen tries whether a notification arrives. It is for connections that don't share.
func (t *trials) listen(ctx context.Context) outcome {
	channel := name()
	if _, err := t.a.ask(ctx, "listen "+channel); err != nil {
		return unclear // a standby has no LISTEN
	}
	if _, err := t.b.ask(ctx, "notify "+channel); err != nil {
		return unclear
	}
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	if _, err := t.a.value(ctx, pid); err != nil {
		return unclear
	}
	n, err := t.a.Pgx().WaitForNotification(ctx)
	if err != nil {
		return fails
	}
	_, _ = t.a.ask(ctx, "unlisten "+channel)
	return judge(nil, n.Channel == channel)
}

// lock tries whether an advisory lock of the session keeps others out until it is released. It is for connections that don't
// share.
func (t *trials) lock(ctx context.Context) outcome {
	key := strconv.FormatInt(rand.Int64(), 10)
	mine, err := t.a.value(ctx, "select pg_try_advisory_lock("+key+")")
	theirs, err2 := t.b.value(ctx, "select pg_try_advisory_lock("+key+")")
	released, err3 := t.a.value(ctx, "select pg_advisory_unlock("+key+")")
	return judge(errors.Join(err, err2, err3), mine == "t" && theirs == "f" && released == "t")
}

// judge is the outcome of a trial that ended with err, if that isn't nil, or else with success or not.
func judge(err error, success bool) outcome {
	switch {
	case err != nil:
		return unclear
	case success:
		return works
	}
	return fails
}

// cancel tries whether a cancel request reaches the statement that it is for. a is of no use afterwards if it doesn't.
func (t *trials) cancel(ctx context.Context) outcome {
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	ended := make(chan error, 1)
	go func() { // ends with ctx at the latest
		_, err := t.a.ask(ctx, fmt.Sprintf("select pg_sleep(%v)", 2*stepTime.Seconds()))
		ended <- err
	}()
	again := time.NewTicker(100 * time.Millisecond) // the first requests may come before the statement
	defer again.Stop()
	for {
		select {
		case err := <-ended:
			return judge(nil, pgerror.IsCanceled(err))
		case <-again.C:
			_ = t.a.Pgx().PgConn().CancelRequest(ctx)
		}
	}
}
