package pool

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"

	"github.com/pgprod/pgprod/internal/credentials"
	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/settings"
)

func TestAPasswordThatCantBeGotIsWorthAnotherTryWhateverTheApplicationSays(t *testing.T) {
	t.Parallel()
	refused := &pgconn.PgError{Severity: "FATAL", Code: "28P01", Message: "of the database that has the passwords"}
	err := fmt.Errorf("dial: %w", &link.LoginError{From: "password function", Cause: refused, Foreign: true})
	p := &Pool{dialer: link.NewDialer(t.Context(), &settings.Config{Conn: &pgx.ConnConfig{}}, link.Hooks{
		Login: credentials.Source{Ask: func(context.Context) (credentials.Credentials, error) {
			return credentials.Credentials{}, errors.ErrUnsupported
		}},
	})}
	for range 10 {
		assert.False(t, p.isFinal(err))
	}
	assert.Equal(t, "there is no password to log in with", p.dialer.Failed(err).Advice())
}
