package pool

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"

	"github.com/pgprod/pgprod/internal/diary"
	"github.com/pgprod/pgprod/internal/settings"
)

func TestAServerThatHasNoRoomIsNotHealthyAgain(t *testing.T) {
	var log bytes.Buffer
	p := &Pool{
		cfg: &settings.Config{}, life: t.Context(),
		diary: diary.New(diary.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}),
	}
	now := time.Now()
	p.looked(answer{at: now, err: errors.New("refused")})
	p.size.Store(1)
	p.looked(answer{at: now, err: &pgconn.PgError{Code: "53300"}})
	assert.NotContains(t, log.String(), "healthy again")
	p.looked(answer{at: now})
	assert.Contains(t, log.String(), "healthy again")
}
