package pool

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"

	"github.com/pgprod/pgprod/internal/settings"
)

func TestAPasswordThatCantBeGotIsWorthAnotherTryWhateverTheApplicationSays(t *testing.T) {
	t.Parallel()
	refused := &pgconn.PgError{Severity: "FATAL", Code: "28P01", Message: "of the database that has the passwords"}
	err := fmt.Errorf("dial: %w", &passwordError{from: "password function", cause: refused, foreign: true})
	p := &Pool{cfg: &settings.Config{}, hooks: Hooks{Password: func(context.Context) (string, error) { return "", errors.ErrUnsupported }}}
	for range 10 {
		assert.False(t, p.isFinal(err))
	}
	assert.Equal(t, "there is no password to log in with", p.dialError(err).advice())
}
