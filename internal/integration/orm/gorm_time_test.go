package orm

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/integration/orm/dropin"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// Moment has a time in each of the server's types. GORM's default for a time.Time is timestamptz.
type Moment struct {
	ID    uint
	Zoned time.Time
	Local time.Time `gorm:"type:timestamp"`
}

const tokyo = "Asia/Tokyo"

// saveMoment writes a noon in Tokyo and reads it again.
func saveMoment(t *testing.T, g *gorm.DB) (written time.Time, read Moment) {
	t.Helper()
	zone, err := time.LoadLocation(tokyo)
	require.NoError(t, err)
	written = time.Date(2026, 1, 2, 12, 0, 0, 123456000, zone)
	require.NoError(t, g.AutoMigrate(&Moment{}))
	require.NoError(t, g.Create(&Moment{Zoned: written, Local: written}).Error)
	require.NoError(t, g.First(&read).Error)
	return written, read
}

func TestGORMKeepsAnInstantInWhateverTimeZone(t *testing.T) {
	ways := map[string]func(testing.TB, string) gorm.Dialector{"DriverName": gormByName, "Conn": gormByConn}
	for _, zone := range []string{"UTC", tokyo} {
		for name, open := range ways {
			t.Run(zone+", "+name, func(t *testing.T) {
				g := openGORM(t, open(t, pgtest.With(pgtest.NewDatabase(t), "timezone", zone)), &gorm.Config{})
				written, read := saveMoment(t, g)
				require.WithinDuration(t, written, read.Zoned, 0)
				var shown string
				require.NoError(t, g.Raw("select current_setting('TimeZone')").Scan(&shown).Error)
				require.Equal(t, zone, shown)
			})
		}
	}
}

// GORM gives the connections that it opens itself a codec which reads a timestamp without time zone in the DSN's zone.
// Through a driver's name or a Conn it can't, with pgx as with pgprod: the wall clock is right, its zone is UTC.
func TestGORMReadsATimestampWithoutTimeZoneAsUTC(t *testing.T) {
	dsn := pgtest.NewDatabase(t)
	_, read := saveMoment(t, openGORM(t, gormByName(t, pgtest.With(dsn, "timezone", tokyo)), &gorm.Config{}))
	require.Equal(t, time.Date(2026, 1, 2, 12, 0, 0, 123456000, time.UTC), read.Local.UTC())

	for name, dialector := range map[string]gorm.Dialector{
		"DriverName pgx": postgres.New(postgres.Config{DriverName: "pgx", DSN: pgtest.With(dsn, "timezone", tokyo)}),
		"GORM's own":     postgres.Open(dsn + "&TimeZone=" + tokyo),
	} {
		g, err := gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
		require.NoError(t, err)
		var same Moment
		require.NoError(t, g.First(&same).Error)
		require.Equal(t, name == "DriverName pgx", same.Local.Equal(read.Local), "%s: %v", name, same.Local)
		require.NoError(t, poolOf(t, g).Close())
	}
}

// PreferSimpleProtocol has no effect on a driver's name or a Conn: the DSN says it.
func TestGORMTakesTheProtocolFromTheDSN(t *testing.T) {
	for mode, prepared := range map[string]bool{"cache_statement": true, "simple_protocol": false, "exec": false} {
		t.Run(mode, func(t *testing.T) {
			dsn := pgtest.With(dropin.OneConn(pgtest.NewDatabase(t)), "default_query_exec_mode", mode)
			g := openGORM(t, postgres.New(postgres.Config{
				DriverName: pgprod.DriverName, DSN: dsn, PreferSimpleProtocol: true,
			}), &gorm.Config{})
			saveMoment(t, g)
			var n int64
			require.NoError(t, g.Raw("select count(*) from pg_prepared_statements where statement like '%moments%'").
				Scan(&n).Error)
			require.Equal(t, prepared, n > 0, "%d statements are prepared", n)
		})
	}
}
