package drivertest

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/settings"
)

const nobody = "host=127.0.0.1 port=1 dbname=nobody" // opening makes no connection

func TestOptionsHasTheFieldsAndTagsOfTheTableOfSettings(t *testing.T) {
	options, values := reflect.TypeFor[pgprod.Options](), reflect.TypeFor[settings.Values]()
	require.Equal(t, values.NumField(), options.NumField())
	for i := range values.NumField() {
		inside, public := values.Field(i), options.Field(i)
		require.Equal(t, inside.Name, public.Name)
		require.True(t, public.Type.ConvertibleTo(inside.Type), public.Name)
		key := strings.ToLower(inside.Tag.Get("env"))
		require.Equal(t, fmt.Sprintf(`json:"%[1]s,omitempty" yaml:"%[1]s,omitempty"`, key), string(public.Tag))
	}
}

func TestOfTwoOptionsForTheSameSettingTheLaterWins(t *testing.T) {
	o := pgprod.Options{PoolSize: new(2), MaxOverflow: new(3)}
	opts := []pgprod.Option{pgprod.WithPoolSize(1), pgprod.WithOptions(o), nil, pgprod.WithMaxOverflow(4)}
	*o.PoolSize = 5 // too late

	db, err := pgprod.Open(nobody, opts...)
	require.NoError(t, err)
	defer db.Close()
	s, err := pgprod.Status(db)
	require.NoError(t, err)
	require.Equal(t, 2, s.PoolSize)
	require.Equal(t, 4, s.MaxOverflow)
}

func TestServerSettingsOfSeveralOptionsMerge(t *testing.T) {
	wrong := pgprod.WithServerSettings(map[string]string{"no name": "1"})
	for _, later := range []pgprod.Option{
		pgprod.WithServerSettings(map[string]string{"jit": "on"}),
		pgprod.WithOptions(pgprod.Options{ServerSettings: map[string]string{"jit": "on"}}),
		pgprod.WithServerSettings(nil),
	} {
		_, err := pgprod.Open(nobody, wrong, later)
		require.ErrorContains(t, err, "option WithServerSettings")
	}
}

func TestEveryOptionSetsItsOwnSetting(t *testing.T) {
	for name, opt := range map[string]pgprod.Option{
		"WithProfile": pgprod.WithProfile("huge"), "WithPoolSize": pgprod.WithPoolSize(0),
		"WithMaxOverflow": pgprod.WithMaxOverflow(-2), "WithPoolTimeout": pgprod.WithPoolTimeout(-1),
		"WithPoolRecycle": pgprod.WithPoolRecycle(-1), "WithPoolIdleTimeout": pgprod.WithPoolIdleTimeout(-1),
		"WithPoolMin":     pgprod.WithPoolMin(21),
		"WithPoolPrePing": pgprod.WithPoolPrePing("maybe"), "WithPoolName": pgprod.WithPoolName("a\nb"),
		"WithEnvironment": pgprod.WithEnvironment("test"), "WithSlowQuery": pgprod.WithSlowQuery(-1),
		"WithLeakDetection":      pgprod.WithLeakDetection(-1),
		"WithServerSettings":     pgprod.WithServerSettings(map[string]string{"": ""}),
		"WithServerSettingsMode": pgprod.WithServerSettingsMode("later"),
		"WithCommandTimeout":     pgprod.WithCommandTimeout(-1), "WithConnectTimeout": pgprod.WithConnectTimeout(0),
		"WithPasswordFile": pgprod.WithPasswordFile("/nowhere"), "WithEnvPrefix": pgprod.WithEnvPrefix("1"),
	} {
		_, err := pgprod.Open(nobody, opt)
		require.ErrorContains(t, err, "pgprod: option "+name+": ")
	}
}

func TestAPasswordFuncAndAPasswordInTheDSNContradictEachOther(t *testing.T) {
	ask := func(context.Context) (string, error) { return "", nil }
	_, err := pgprod.Open(nobody+" password=s3cret", pgprod.WithPasswordFunc(ask))
	require.EqualError(t, err, "pgprod: option WithPasswordFunc and DSN key password: are both given; give one of them")
	db, err := pgprod.Open(nobody+" password=s3cret", pgprod.WithPasswordFunc(nil))
	require.NoError(t, err)
	require.NoError(t, db.Close())
}

func TestAllThatIsWrongWithTheOptionsIsInOneError(t *testing.T) {
	_, err := pgprod.Open(nobody, pgprod.WithSQLCommenter("loud", nil), pgprod.WithPoolSize(0))
	require.ErrorContains(t, err, "pgprod: option WithPoolSize: ")
	require.ErrorContains(t, err, "pgprod: option WithSQLCommenter: mode must be off, static or full")
}
