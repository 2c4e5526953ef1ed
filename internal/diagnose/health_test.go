package diagnose

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"

	"github.com/pgprod/pgprod/internal/diary"
	"github.com/pgprod/pgprod/internal/lease"
	"github.com/pgprod/pgprod/internal/settings"
)

// aPool is one of which only some parts are there.
type aPool struct {
	Pool
	t     *testing.T
	diary *diary.Diary
	open  int
}

func (p *aPool) Settings() *settings.Config      { return &settings.Config{} }
func (p *aPool) Diary() *diary.Diary             { return p.diary }
func (p *aPool) Life() context.Context           { return p.t.Context() }
func (p *aPool) Closed() bool                    { return false }
func (p *aPool) Figures() lease.Stats            { return lease.Stats{Open: p.open} }
func (p *aPool) Failure(err error) diary.Failure { return diary.Failure{Text: err.Error()} }

func TestAServerThatHasNoRoomIsNotHealthyAgain(t *testing.T) {
	var log bytes.Buffer
	p := &aPool{t: t, diary: diary.New(diary.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})}
	h := NewProber(p)
	now := time.Now()
	h.noteHealth(answer{at: now, err: errors.New("refused")})
	p.open = 1
	h.noteHealth(answer{at: now, err: &pgconn.PgError{Code: "53300"}})
	assert.NotContains(t, log.String(), "healthy again")
	h.noteHealth(answer{at: now})
	assert.Contains(t, log.String(), "healthy again")
}
