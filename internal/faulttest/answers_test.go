package faulttest

import (
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgerror"
)

// An answer is what a caller is told of a deed.
type answer int

const (
	wasDone answer = iota // there is no error: it has happened
	notDone               // the error says that nothing has happened
	perhaps               // the error says that it may have happened
	unsaid                // the error says neither
)

func (a answer) String() string {
	return []string{"done", "not done", "perhaps", "unsaid"}[a]
}

// itMayHaveRun and nothingHappened are the words with which pgprod says so.
const itMayHaveRun = "whether it ran is unknown"

var nothingHappened = regexp.MustCompile("not sent|nothing was sent|before (the statement|it) was (sent|executed)|has not run|" +
	"rolled back|was not committed|waiting .* for a connection")

// answerOf tells from an error of pgprod's what its caller knows.
func answerOf(err error) answer {
	switch {
	case err == nil:
		return wasDone
	case errors.Is(err, pgprod.ErrCommitUnknown), strings.Contains(err.Error(), itMayHaveRun):
		return perhaps
	case nothingHappened.MatchString(err.Error()), isRefusal(err):
		return notDone
	}
	return unsaid
}

// isRefusal reports whether err is an ERROR of the server's, by which what it was asked for is rolled back.
func isRefusal(err error) bool { return sqlState(err) != "" && !pgerror.IsFatal(err) }

// A report is a deed, and what its caller was told of it.
type report struct {
	deed deed
	work work
	err  error
	how  string // what was done to its connection, and how it is found again
}

func (r report) String() string {
	return fmt.Sprintf("%s, number %s, %s: %v (%v)", r.deed.name, r.work.number, r.how, answerOf(r.err), r.err)
}

// A judge knows what is in the database.
type judge struct {
	rows map[string]map[int]int // how many there are of each part, by the number of the deed
}

// newJudge looks at a judgedDatabase that nobody changes any more.
func newJudge(t *testing.T, db *sql.DB) judge {
	t.Helper()
	j := judge{map[string]map[int]int{}}
	rows, err := db.Query("select note, part, count(*) from (select * from runs union all select * from kept) r group by note, part")
	require.NoError(t, err)
	for rows.Next() {
		var number string
		var part, n int
		require.NoError(t, rows.Scan(&number, &part, &n))
		if j.rows[number] == nil {
			j.rows[number] = map[int]int{}
		}
		j.rows[number][part] = n
	}
	require.NoError(t, rows.Err())
	return j
}

// verdict says what is wrong with what the caller of a deed was told, which is said of its error; "": nothing.
func (j judge) verdict(r report, told answer) string {
	rows := j.rows[r.work.number]
	for part := range r.deed.parts {
		if rows[part+1] != rows[1] {
			return fmt.Sprintf("torn: %v", rows)
		}
	}
	switch times := rows[1]; {
	case times > 1:
		return "doubled"
	case told == wasDone && times == 0 && r.deed.parts > 0:
		return "lost"
	case told == notDone && times > 0:
		return "done all the same"
	case told == unsaid:
		return "not told"
	}
	return ""
}
