package faultproxy

import "github.com/jackc/pgx/v5/pgproto3"

// Fatal returns the message by which PostgreSQL ends a session, for Cut.Word: an ErrorResponse with the fields that
// PostgreSQL sends. Without a routine, which is the function of PostgreSQL's that has made the error, it is a pooler's.
func Fatal(code, text, routine string) []byte {
	word := &pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code, Message: text}
	if routine != "" {
		word.File, word.Line, word.Routine = "postgres.c", 3000, routine // the line differs from version to version
	}
	message, err := word.Encode(nil)
	if err != nil {
		panic(err) // it is longer than a message may be
	}
	return message
}

// Terminated is what PostgreSQL says to a session that pg_terminate_backend ends, or a shutdown.
func Terminated() []byte {
	return Fatal("57P01", "terminating connection due to administrator command", "ProcessInterrupts")
}
