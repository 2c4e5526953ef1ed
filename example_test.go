package pgprod_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"gopkg.in/yaml.v3"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// TestMain sets DB_DSN to a server for the examples, which all open the DSN "".
func TestMain(m *testing.M) {
	stop, err := setDSN()
	if err != nil {
		log.Fatal(err)
	}
	code := pgtest.Main(m)
	if err := stop(); err != nil {
		log.Fatal(err)
	}
	os.Exit(code)
}

func setDSN() (stop func() error, err error) {
	if dsn := os.Getenv("DB_TEST_DSN"); dsn != "" {
		return func() error { return nil }, os.Setenv("DB_DSN", dsn)
	}
	server, err := pgtest.Start(context.Background(), pgtest.Config{})
	if err != nil {
		return nil, err
	}
	stop = func() error { return server.Stop(context.Background()) }
	return stop, os.Setenv("DB_DSN", server.DSN(""))
}

// The program of the README. Whatever opens a database by its driver's name becomes a pool in the same way. GORM does so
// with
//
//	gorm.Open(postgres.New(postgres.Config{DriverName: "pgprod", DSN: dsn}), &gorm.Config{})
//
// and sqlx with sqlx.Open("pgprod", dsn), after sqlx.BindDriver("pgprod", sqlx.DOLLAR).
func Example() {
	var answer int
	db, err := sql.Open("pgprod", "") // was "pgx"; the DSN is in DB_DSN
	if err == nil {
		defer db.Close()
		err = db.QueryRow("select 6 * $1::int", 7).Scan(&answer)
	}
	fmt.Println(answer, err)
	// Output: 42 <nil>
}

// Everything can be set in code as well; an option wins over the DSN, the environment, the profile and the default.
func ExampleOpen() {
	db, err := pgprod.Open("",
		pgprod.WithProfile("small"),
		pgprod.WithPoolTimeout(5*time.Second),
		pgprod.WithCommandTimeout(10*time.Second),
		pgprod.WithServerSettings(map[string]string{"application_name": "shop", "jit": ""}), // "": leave it to the server
	)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	var name string
	if err := db.QueryRow("select current_setting('application_name')").Scan(&name); err != nil {
		log.Fatal(err)
	}
	fmt.Println(name)
	// Output: shop
}

// A wrong setting fails at once, with everything that is wrong.
func ExampleOpen_mistakes() {
	_, err := pgprod.Open("postgres://app@db.example.com/shop?pool_sise=20", pgprod.WithMaxOverflow(-5))
	fmt.Println(err)
	// Output:
	// pgprod: option WithMaxOverflow: must be a whole number of at least 0, or -1 for no limit
	// pgprod: DSN key pool_sise: is not a setting; did you mean pool_size?
}

// A Connector is for code that calls sql.OpenDB itself.
func ExampleNewConnector() {
	connector, err := pgprod.NewConnector("", pgprod.WithPoolName("orders"))
	if err != nil {
		log.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer db.Close() // closes the connector

	fmt.Println(db.Ping())
	// Output: <nil>
}

// Libraries that take their SQL dialect from the driver's name (sqlx, goose, ent) find a name that they know.
func ExampleRegister() {
	pgprod.Register("postgres")
	db, err := sql.Open("postgres", "")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	fmt.Println(db.Ping())
	// Output: <nil>
}

func ExampleStatus() {
	db, err := sql.Open("pgprod", "")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	if err := db.Ping(); err != nil {
		log.Fatal(err)
	}

	status, err := pgprod.Status(db) // marshals to JSON
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("size %d, overflow up to %d, checked out %d, idle %d, timeouts %d\n",
		status.PoolSize, status.MaxOverflow, status.CheckedOut, status.CheckedIn, status.Timeouts)
	// Output: size 20, overflow up to 10, checked out 0, idle 1, timeouts 0
}

// CopyFrom is the quickest way to insert many rows; database/sql has no word for it.
func ExampleRaw() {
	db, err := sql.Open("pgprod", "")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	ctx := context.Background()
	err = pgprod.Raw(ctx, db, func(conn *pgx.Conn) error {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		defer tx.Rollback(ctx) // does nothing after Commit
		if _, err := tx.Exec(ctx, "create temporary table fruit (name text, pieces int) on commit drop"); err != nil {
			return err
		}
		n, err := tx.CopyFrom(ctx, pgx.Identifier{"fruit"}, []string{"name", "pieces"},
			pgx.CopyFromRows([][]any{{"apple", 3}, {"pear", 4}}))
		fmt.Println("rows copied:", n)
		if err != nil {
			return err
		}
		return tx.Commit(ctx)
	})
	fmt.Println(err)
	// Output:
	// rows copied: 2
	// <nil>
}

// The `database:` section of a config file, as YAML here; JSON does as well. Durations are 30s, 1m30s or bare seconds.
func ExampleWithOptions() {
	const configFile = `
database:
  pool_size: 5
  max_overflow: 2
  pool_timeout: 30
  pool_recycle: 1800
  pool_pre_ping: True
  server_settings:
    jit: "off"
    application_name: production_api
  command_timeout: 30
`
	var config struct{ Database pgprod.Options }
	if err := yaml.Unmarshal([]byte(configFile), &config); err != nil {
		log.Fatal(err)
	}
	db, err := pgprod.Open("", pgprod.WithOptions(config.Database))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	status, err := pgprod.Status(db)
	fmt.Println(status.PoolSize, status.MaxOverflow, err)
	// Output: 5 2 <nil>
}

// A caller that gets no connection within pool_timeout is told so, and can answer 503 rather than 500.
func Example_poolTimeout() {
	db, err := pgprod.Open("", pgprod.WithPoolSize(1), pgprod.WithMaxOverflow(0), pgprod.WithPoolTimeout(50*time.Millisecond))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	tx, err := db.Begin() // has the only connection
	if err != nil {
		log.Fatal(err)
	}
	defer tx.Rollback()

	_, err = db.Exec("select 1")
	fmt.Println(errors.Is(err, pgprod.ErrPoolTimeout))
	// Output: true
}

// InTx commits if the function returns nil, rolls back if not, and repeats what the server gave up in favour of another
// transaction.
func ExampleInTx() {
	db, err := sql.Open("pgprod", "")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	ctx := context.Background()
	err = pgprod.InTx(ctx, db, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "create temporary table fruit (name text) on commit drop")
		return err
	}, pgprod.TxIsolation(sql.LevelSerializable))
	fmt.Println(err)
	// Output: <nil>
}

// Where a Commit's reply is lost, only a look at the data tells whether the transaction took place.
func Example_commitUnknown() {
	db, err := sql.Open("pgprod", "")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	tx, err := db.Begin()
	if err != nil {
		log.Fatal(err)
	}
	defer tx.Rollback() // does nothing after Commit
	// … insert an order, under a number that the program has chosen …

	switch err := tx.Commit(); {
	case errors.Is(err, pgprod.ErrCommitUnknown):
		fmt.Println("look for the order's number before trying again")
	case err != nil:
		fmt.Println("not committed, safe to try again:", err)
	default:
		fmt.Println("committed")
	}
	// Output: committed
}
