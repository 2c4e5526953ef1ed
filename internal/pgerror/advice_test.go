package pgerror

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
)

// TestAPoolersRefusalOfAParameterSaysWhatToDo has the texts of PgBouncer 1.7 to 1.25.
func TestAPoolersRefusalOfAParameterSaysWhatToDo(t *testing.T) {
	const set = "server_settings_mode=set"
	for message, want := range map[string]string{
		"unsupported startup parameter: jit":                                     "the pooler doesn't know it: server_settings_mode=set sets it after connecting, server_settings=jit= drops it",
		"Unsupported startup parameter: jit":                                     "the pooler doesn't know it: server_settings_mode=set sets it after connecting, server_settings=jit= drops it",
		"unsupported startup parameter: jit=off":                                 "the pooler doesn't know it: server_settings_mode=set sets it after connecting, server_settings=jit= drops it",
		"unsupported startup parameter: replication":                             "the pooler doesn't know it, take it out of the DSN",
		"unsupported startup parameter":                                          "the pooler doesn't know it, take it out of the DSN",
		"unsupported startup parameter: options":                                 "the pooler doesn't know it: take options out of the DSN, and unset PGOPTIONS; what they set may stand in server_settings, with " + set,
		"unsupported startup parameter in options: lock_timeout":                 "the pooler doesn't take it in options: take lock_timeout out of options in the DSN and out of PGOPTIONS; in server_settings, " + set + " sets it after connecting",
		"unsupported startup parameter in options: app.x":                        "the pooler doesn't take it in options: take app.x out of options in the DSN and out of PGOPTIONS; in server_settings, " + set + " sets it after connecting",
		"unsupported options startup parameter: only '-c config=val' is allowed": "the pooler doesn't take it in options: take what isn't -c name=value out of options in the DSN and out of PGOPTIONS; in server_settings, " + set + " sets it after connecting",
	} {
		refused := &pgconn.PgError{Severity: "FATAL", Code: "08P01", Message: message}
		assert.Equal(t, want, Advice(refused, ""), message)
		assert.Equal(t, Final, ProspectOf(refused, false), message)
	}
	for _, message := range []string{"query_wait_timeout", "no more connections allowed (max_client_conn)", "server login has been failing"} {
		assert.Equal(t, Passing, ProspectOf(&pgconn.PgError{Severity: "FATAL", Code: "08P01", Message: message}, false), message)
	}
}
