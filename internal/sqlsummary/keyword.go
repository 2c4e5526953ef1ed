package sqlsummary

// keyword is a word the state machine looks at; all others are noKey.
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
	kwFunction // that is called without parentheses, as current_date
	kwGroup
	kwInto
	kwJoin
	kwLateral
	kwOn
	kwOnly
	kwOther // looked at only because it's reserved
	kwReturning
	kwSelect
	kwTable
	kwTail // what ends a list of tables: where, having, window, order, limit, offset
	kwTo
	kwUsing
	kwWith

	// Statements that are named by their first word.
	kwSimple
	// Other statements.
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
	kwTruncate // and what else has a list of tables: lock, vacuum
	kwUpdate
	kwValues

	// Words within statements.
	kwCycle // and search
	kwLocal
	kwOption // what may stand before the name of a table: if exists, concurrently, full, …
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

	// reserved marks, in the table, words that are no names of tables: in pg_get_keywords(), the categories R and T.
	reserved keyword = 0x80
)

const _ = uint(reserved - numKeywords) // the mark is no part of a keyword

// maxKeyword is the length of the longest keyword.
const maxKeyword = len("current_timestamp")

// lookup finds the keyword, in any case, with its mark.
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
