package pgerror

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
)

// everyCode has all SQLSTATEs that a predicate might look at, and others of their classes and of other ones.
const everyCode = "00000 01000 02000 08000 08003 08006 08P01 0A000 21000 22000 22001 22023 22P02 23000 23502 23503 23505 23514 23P01 " +
	"25000 25006 25P01 25P02 25P03 25P04 26000 28000 28P01 34000 3D000 40000 40001 40002 40003 40P01 42501 42601 42602 42704 42P01 42P07 " +
	"53000 53100 53200 53300 54000 55000 55P02 55P03 57000 57014 57P01 57P02 57P03 57P04 57P05 58000 58030 58P01 F0000 P0001 XX000 XX001"

func TestEachPredicateIsTrueForItsSQLSTATEsAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		is    func(error) bool
		codes string
	}{
		"ServerLeaves":       {ServerLeaves, "57P01 57P02 57P03"},
		"IsReadOnly":         {IsReadOnly, "25006"},
		"ServerIsFull":       {ServerIsFull, "53300"},
		"IsCanceled":         {IsCanceled, "57014"},
		"IsLockTimeout":      {IsLockTimeout, "55P03"},
		"IsUnknownThere":     {IsUnknownThere, "0A000 42501 42601 42602 42704 42P01 42P07"},
		"IsConflict":         {IsConflict, "40001 40P01"},
		"PlanIsOutdated":     {PlanIsOutdated, "08P01 0A000 26000 42501 42601 42602 42704 42P01 42P07 XX000"},
		"HasNoSuchStatement": {HasNoSuchStatement, "26000"},
		"NamesSetting":       {NamesSetting, "42501 42602 42704 55P02"},
		"SchemaChanged":      {SchemaChanged, "08P01 0A000 42501 42601 42602 42704 42P01 42P07 XX000"},
		"HasNoSuchValue":     {HasNoSuchValue, "22000 22001 22023 22P02"},
		"IsExpected":         {IsExpected, "23000 23502 23503 23505 23514 23P01 40000 40001 40002 40003 40P01"},
		"HitsAll": {HitsAll, "08000 08003 08006 08P01 25006 25P02 53000 53100 53200 53300 " +
			"57000 57P01 57P02 57P03 57P04 57P05"},
		"not SettlesCommit": {func(err error) bool { return !SettlesCommit(err) }, "08000 08003 08006 08P01 40003"},
	} {
		var got []string
		for code := range strings.FieldsSeq(everyCode) {
			pg := &pgconn.PgError{Severity: "ERROR", Code: code}
			if c.is(pg) {
				got = append(got, code)
			}
			assert.Equal(t, c.is(pg), c.is(fmt.Errorf("wrapped: %w", errors.Join(io.EOF, pg))), "%s of %s, wrapped", name, code)
		}
		assert.Equal(t, strings.Fields(c.codes), got, name)
	}
}

func TestWithoutAWordOfTheServersOnlyItsLeavingIsAssumed(t *testing.T) {
	t.Parallel()
	for name, is := range map[string]func(error) bool{
		"IsFatal": IsFatal, "IsReadOnly": IsReadOnly, "ServerIsFull": ServerIsFull, "IsCanceled": IsCanceled, "IsLockTimeout": IsLockTimeout,
		"IsUnknownThere": IsUnknownThere, "IsStatementTimeout": IsStatementTimeout, "IsConflict": IsConflict, "EndedInstead": EndedInstead, "SettlesCommit": SettlesCommit,
		"PlanIsOutdated": PlanIsOutdated, "SchemaChanged": SchemaChanged, "HasNoSuchValue": HasNoSuchValue, "IsExpected": IsExpected,
		"HitsAll": HitsAll, "HasNoSuchStatement": HasNoSuchStatement, "NamesSetting": NamesSetting,
	} {
		assert.False(t, is(io.ErrUnexpectedEOF), name)
		assert.False(t, is(nil), "%s of success", name)
	}
	assert.True(t, ServerLeaves(io.ErrUnexpectedEOF), "the connection broke, those of others may have as well")
	assert.False(t, ServerLeaves(&pgconn.PgError{}))
}

func TestTheServerHasAnsweredWithSuccessOrWithAnError(t *testing.T) {
	t.Parallel()
	assert.True(t, ServerAnswered(nil))
	assert.True(t, ServerAnswered(fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: "42601"})))
	assert.False(t, ServerAnswered(io.EOF))
}

func TestCodesOfServersThatOnlySpeakTheProtocolMayBeShort(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"", "5", "57"} {
		pg := &pgconn.PgError{Code: code}
		assert.Equal(t, code == "57", HitsAll(pg), code)
		assert.NotEmpty(t, Subject(pg), code)
		assert.NotPanics(t, func() { ProspectOf(pg, true); Advice(pg, "") }, code)
	}
}

func TestEveryClassHasASubject(t *testing.T) {
	t.Parallel()
	for code := range strings.FieldsSeq(everyCode) {
		assert.Equal(t, code == "00000", Subject(&pgconn.PgError{Code: code}) == "an error", code)
	}
}

func TestASessionEndsByFatalAndPanicInWhateverLanguage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		severity, unlocalized string
		want                  bool
	}{
		{"ERROR", "ERROR", false},
		{"FATAL", "FATAL", true},
		{"PANIC", "PANIC", true},
		{"FATAL", "", true}, // before 9.6
		{"PANIK", "PANIC", true},
		{"FATAL", "ERROR", false}, // whatever language that is
		{"", "", false},
	} {
		assert.Equal(t, c.want, IsFatal(&pgconn.PgError{Severity: c.severity, SeverityUnlocalized: c.unlocalized}), c)
	}
}

func TestAStatementTimeoutIsToldFromACancelRequestByItsText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code, message string
		want          bool
	}{
		{"57014", "canceling statement due to statement timeout", true},
		{"57014", "canceling statement due to user request", false},
		{"57014", "storniere Anfrage wegen Zeitüberschreitung der Anfrage", false},
		{"P0001", "statement timeout", false},
	} {
		assert.Equal(t, c.want, IsStatementTimeout(&pgconn.PgError{Code: c.code, Message: c.message}), c)
	}
}

func TestOnlyTheServerItselfEndsASessionInPlaceOfACommit(t *testing.T) {
	t.Parallel()
	fatal := func(code, routine string) *pgconn.PgError {
		return &pgconn.PgError{SeverityUnlocalized: "FATAL", Code: code, Routine: routine}
	}
	var got, read []string
	for code := range strings.FieldsSeq(everyCode) {
		if EndedInstead(fatal(code, "ProcessInterrupts")) {
			got = append(got, code)
		}
		if EndedInstead(fatal(code, "secure_read")) {
			read = append(read, code)
		}
		assert.False(t, EndedInstead(fatal(code, "")), "a pooler's %s", code)
		assert.False(t, SettlesCommit(fatal(code, "ProcessInterrupts")), "FATAL %s is no answer to the COMMIT", code)
		assert.False(t, EndedInstead(&pgconn.PgError{SeverityUnlocalized: "ERROR", Code: code, Routine: "ProcessInterrupts"}), code)
	}
	assert.Equal(t, []string{"25P03", "25P04", "40001", "57P01", "57P05"}, got)
	assert.Equal(t, []string{"57P01"}, read, "the postmaster is gone")
}

func TestARollbackInPlaceOfACommitIsAnAnswer(t *testing.T) {
	t.Parallel()
	assert.True(t, SettlesCommit(pgx.ErrTxCommitRollback))
}

func TestNoticesThatAreWarnings(t *testing.T) {
	t.Parallel()
	assert.True(t, IsWarning(&pgconn.Notice{Severity: "WARNUNG", SeverityUnlocalized: "WARNING"}))
	assert.True(t, IsWarning(&pgconn.Notice{Severity: "WARNING"}), "before 9.6")
	assert.False(t, IsWarning(&pgconn.Notice{Severity: "NOTICE", SeverityUnlocalized: "NOTICE"}))
	assert.True(t, NotReplicated(&pgconn.Notice{SeverityUnlocalized: "WARNING", Code: "01000", Routine: "SyncRepWaitForLSN"}))
	assert.False(t, NotReplicated(&pgconn.Notice{SeverityUnlocalized: "WARNING", Code: "01000"}))
}
