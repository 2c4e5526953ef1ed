package sqlsummary

// A keyword stands for one or several words that the state machine treats alike. All other words are noKey.
type keyword uint8

const (
	noKey keyword = iota

	// Words of queries.
	kwAll
	kwAnalyze
	kwAs
	kwDistinct
	kwExcept // and intersect, union
	kwFor
	kwFrom
	kwFunction // functions that are called without parentheses, as current_date
	kwGroup
	kwInto
	kwJoin
	kwLateral
	kwOn
	kwOnly
	kwOther // words that matter only because they are reserved
	kwReturning
	kwSelect
	kwTable
	kwTail // words that end a list of tables: where, having, window, order, limit, offset
	kwTo
	kwUsing
	kwWith

	// The first words of statements. Those of kwSimple have that word as their whole summary.
	kwSimple
	kwAlter
	kwCall
	kwCopy
	kwCreate
	kwDeclare
	kwDelete
	kwDrop
	kwExplain
	kwFetch
	kwImport
	kwInsert
	kwListen // and unlisten, notify
	kwMerge
	kwPrepare
	kwRefresh // and reindex
	kwSet
	kwShow     // and reset, start
	kwTruncate // and others that have a list of tables: lock, vacuum
	kwUpdate
	kwValues

	// Words within statements.
	kwCycle // and search
	kwLocal
	kwOption // words that may come before the name of a table: if exists, concurrently, full, …
	kwRecursive
	kwRows
	kwSession
	kwTime
	kwUescape
	kwZone

	// Kinds of objects, beside kwTable, and words around them.
	kwKind
	kwModifier // words before the kind that are left out: or replace, temporary, unique, …
	kwPrefix   // words that belong to the kind: foreign, materialized, …
	kwView

	numKeywords

	// reserved is a bit that is set in the table below for words that can't be names of tables without quotes: those of the
	// categories R and T in pg_get_keywords().
	reserved keyword = 0x80
)

const _ = uint(reserved - numKeywords) // doesn't compile if a keyword uses that bit

// maxKeyword is the length of the longest word in the table.
const maxKeyword = len("current_timestamp")

// lookup returns the keyword of a word, whatever its case, with the bit reserved.
func lookup(name string) keyword {
	if len(name) > maxKeyword {
		return noKey
	}
	var lower [maxKeyword]byte
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		lower[i] = c
	}
	return keywords[string(lower[:len(name)])]
}

// keywords are the keywords by word, in lower case.
var keywords = map[string]keyword{
	"all": kwAll | reserved, "analyze": kwAnalyze | reserved, "analyse": kwAnalyze | reserved, "as": kwAs | reserved,
	"authorization": kwOther | reserved, "case": kwOther | reserved, "concurrently": kwOption | reserved,
	"distinct": kwDistinct | reserved, "end": kwSimple | reserved, "except": kwExcept | reserved,
	"intersect": kwExcept | reserved, "union": kwExcept | reserved, "for": kwFor | reserved,
	"from": kwFrom | reserved, "group": kwGroup | reserved, "into": kwInto | reserved, "join": kwJoin | reserved,
	"lateral": kwLateral | reserved, "not": kwOption | reserved, "on": kwOn | reserved, "only": kwOnly | reserved,
	"full": kwOption | reserved, "freeze": kwOption | reserved, "verbose": kwOption | reserved,
	"returning": kwReturning | reserved, "select": kwSelect | reserved, "table": kwTable | reserved,
	"where": kwTail | reserved, "having": kwTail | reserved, "window": kwTail | reserved,
	"order": kwTail | reserved, "limit": kwTail | reserved, "offset": kwTail | reserved,
	"fetch": kwFetch | reserved, "to": kwTo | reserved, "user": kwKind | reserved, "using": kwUsing | reserved,
	"with": kwWith | reserved, "and": kwOther | reserved, "or": kwModifier | reserved,
	"default": kwPrefix | reserved, "when": kwOther | reserved, "then": kwOther | reserved,
	"else": kwOther | reserved, "in": kwOther | reserved, "current_catalog": kwFunction | reserved,
	"current_date": kwFunction | reserved, "current_role": kwFunction | reserved,
	"current_schema": kwFunction | reserved, "current_time": kwFunction | reserved,
	"current_timestamp": kwFunction | reserved, "current_user": kwFunction | reserved,
	"localtime": kwFunction | reserved, "localtimestamp": kwFunction | reserved,
	"session_user": kwFunction | reserved, "system_user": kwFunction | reserved, "do": kwSimple | reserved,
	"create": kwCreate | reserved, "grant": kwSimple | reserved, "binary": kwOption | reserved,
	"column": kwOther | reserved, "unique": kwModifier | reserved, "constraint": kwModifier | reserved,
	"cast": kwKind | reserved, "foreign": kwPrefix | reserved, "collation": kwKind | reserved,

	"abort": kwSimple, "checkpoint": kwSimple, "close": kwSimple, "commit": kwSimple, "deallocate": kwSimple,
	"discard": kwSimple, "execute": kwSimple, "load": kwSimple, "move": kwSimple, "reassign": kwSimple,
	"release": kwSimple, "rollback": kwSimple, "savepoint": kwSimple, "security": kwSimple, "alter": kwAlter,
	"begin": kwSimple, "call": kwCall, "cluster": kwSimple, "comment": kwSimple, "copy": kwCopy,
	"declare": kwDeclare, "delete": kwDelete, "drop": kwDrop, "explain": kwExplain, "revoke": kwSimple,
	"import": kwImport, "insert": kwInsert, "listen": kwListen, "unlisten": kwListen, "notify": kwListen,
	"lock": kwTruncate, "merge": kwMerge, "prepare": kwPrepare, "refresh": kwRefresh, "reindex": kwRefresh,
	"set": kwSet, "show": kwShow, "reset": kwShow, "start": kwShow, "truncate": kwTruncate, "update": kwUpdate,
	"vacuum": kwTruncate, "values": kwValues, "cycle": kwCycle, "search": kwCycle, "exists": kwOption,
	"if": kwOption, "local": kwLocal, "materialized": kwPrefix, "recursive": kwRecursive, "rows": kwRows,
	"session": kwSession, "temp": kwModifier, "temporary": kwModifier, "unlogged": kwModifier, "time": kwTime,
	"uescape": kwUescape, "zone": kwZone, "event": kwPrefix, "global": kwModifier, "replace": kwModifier,
	"trusted": kwModifier, "procedural": kwModifier, "index": kwKind, "system": kwKind, "privileges": kwKind,
	"owned": kwKind, "operator": kwKind, "role": kwKind, "function": kwKind, "procedure": kwKind,
	"routine": kwKind, "rule": kwKind, "policy": kwKind, "trigger": kwKind, "view": kwView, "aggregate": kwKind,
	"database": kwKind, "domain": kwKind, "extension": kwKind, "language": kwKind, "publication": kwKind,
	"schema": kwKind, "sequence": kwKind, "server": kwKind, "statistics": kwKind, "subscription": kwKind,
	"tablespace": kwKind, "type": kwKind,
}
