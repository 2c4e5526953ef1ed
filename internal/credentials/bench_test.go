package credentials_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/credentials"
)

// BenchmarkRetireAt is what a pool with credentials that end does twice for each statement, besides.
func BenchmarkRetireAt(b *testing.B) {
	k := credentials.New(credentials.Options{
		Source: credentials.Source{Keep: true, Ask: func(context.Context) (credentials.Credentials, error) {
			return credentials.Credentials{Expires: time.Now().Add(time.Hour)}, nil
		}},
		Life: b.Context(), Limit: time.Minute, Came: func(bool) {},
	})
	issue, err := k.Get(b.Context())
	require.NoError(b, err)
	made := clock.Now()
	b.ReportAllocs()
	for b.Loop() {
		issue.RetireAt(made, 0.5)
	}
}
