package tools

import (
	"context"
	"database/sql"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// greet is a job; who is greeted stands in the table greetings afterwards.
type greet struct {
	Name string `json:"name"`
}

func (greet) Kind() string { return "greet" }

type greeter struct {
	river.WorkerDefaults[greet]
	db *sql.DB
}

func (w *greeter) Work(ctx context.Context, job *river.Job[greet]) error {
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, "insert into greetings values ($1)", job.Args.Name); err != nil {
		return err
	}
	if _, err := river.JobCompleteTx[*riverdatabasesql.Driver](ctx, tx, job); err != nil {
		return err
	}
	return tx.Commit()
}

// migrated makes River's tables.
func migrated(t *testing.T, db *sql.DB) *riverdatabasesql.Driver {
	t.Helper()
	driver := riverdatabasesql.New(db)
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	_, err = migrator.Migrate(t.Context(), rivermigrate.DirectionUp, nil)
	require.NoError(t, err)
	return driver
}

// River's driver for database/sql polls for jobs instead of listening.
func TestRiverMigratesInsertsAndWorksJobs(t *testing.T) {
	t.Parallel()
	db := newPool(t)
	driver := migrated(t, db)
	mustExec(t, db, "create table greetings (name text)")

	workers := river.NewWorkers()
	river.AddWorker(workers, &greeter{db: db})
	client, err := river.NewClient(driver, &river.Config{
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 2}},
		Workers:           workers,
		Logger:            slog.New(slog.DiscardHandler),
		FetchPollInterval: 50 * time.Millisecond,
		FetchCooldown:     10 * time.Millisecond,
		TestOnly:          true,
	})
	require.NoError(t, err)
	completed, unsubscribe := client.Subscribe(river.EventKindJobCompleted)
	defer unsubscribe()
	require.NoError(t, client.Start(context.WithoutCancel(t.Context())))

	_, err = client.Insert(t.Context(), greet{"ann"}, nil)
	require.NoError(t, err)
	_, err = client.InsertMany(t.Context(), []river.InsertManyParams{{Args: greet{"bob"}}, {Args: greet{"cy"}}})
	require.NoError(t, err)
	for _, commit := range []bool{false, true} {
		tx, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		name := map[bool]string{true: "dan", false: "nobody"}[commit]
		_, err = client.InsertTx(t.Context(), tx, greet{name}, &river.InsertOpts{UniqueOpts: river.UniqueOpts{ByArgs: true}})
		require.NoError(t, err)
		if commit {
			require.NoError(t, tx.Commit())
		} else {
			require.NoError(t, tx.Rollback())
		}
	}

	for range 4 {
		select {
		case <-completed:
		case <-time.After(patience):
			t.Fatal("a job isn't worked")
		}
	}
	require.NoError(t, client.Stop(context.WithoutCancel(t.Context())))
	assert.Equal(t, "ann,bob,cy,dan", get[string](t, db, "select string_agg(name, ',' order by name) from greetings"))
	assert.Equal(t, 4, get[int](t, db, "select count(*) from river_job where state = 'completed'"))
	requireNothingLeft(t, db)
}

// A program of its own may listen for what River tells of each insert, and so may a worker for a NOTIFY beside the job.
func TestAnInsertOfRiversWakesWhoListensThroughRaw(t *testing.T) {
	t.Parallel()
	db := newPool(t)
	client, err := river.NewClient(migrated(t, db), &river.Config{Logger: slog.New(slog.DiscardHandler), TestOnly: true})
	require.NoError(t, err)
	raw(t, db, func(conn *pgx.Conn) error {
		for _, channel := range []string{"public.river_insert", "beside"} {
			_, err := conn.Exec(t.Context(), "listen "+pgx.Identifier{channel}.Sanitize())
			require.NoError(t, err)
		}
		for _, commit := range []bool{false, true} {
			tx, err := db.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			queue := map[bool]string{true: "jobs", false: "nothing"}[commit] // River tells of each once in a while only
			_, err = client.InsertTx(t.Context(), tx, greet{"ann"}, &river.InsertOpts{Queue: queue})
			require.NoError(t, err)
			mustExec(t, tx, "select pg_notify('beside', $1)", map[bool]string{true: "committed", false: "rolled back"}[commit])
			if commit {
				require.NoError(t, tx.Commit())
			} else {
				require.NoError(t, tx.Rollback())
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		told := map[string]string{}
		for range 2 {
			n, err := conn.WaitForNotification(ctx)
			if err != nil {
				return err
			}
			told[n.Channel] = n.Payload
		}
		assert.JSONEq(t, `{"queue": "jobs"}`, told["public.river_insert"])
		assert.Equal(t, "committed", told["beside"])
		assert.Equal(t, 1, get[int](t, db, "select count(*) from river_job"))
		return nil
	})
	requireNothingLeft(t, db)
}
