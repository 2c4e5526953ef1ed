package settings

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDurationsTakeGosFormAndBareSeconds(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"30s": 30 * time.Second, "1m30s": 90 * time.Second, "30": 30 * time.Second, "0.25": time.Second / 4, "0": 0,
		" 5 ": 5 * time.Second, "-1": -time.Second, "1h": time.Hour, "0.1": 100 * time.Millisecond,
	} {
		var d Duration
		require.NoError(t, d.UnmarshalText([]byte(text)), text)
		require.Equal(t, want, time.Duration(d), text)
	}
	for _, text := range []string{"", "s3cret", "30 s", "NaN", "Inf", "0x10", "1e3", "9999999999999999999", "1.2.3", "--1", "."} {
		var d Duration
		require.EqualError(t, d.UnmarshalText([]byte(text)), errDuration.Error(), text)
	}
}
