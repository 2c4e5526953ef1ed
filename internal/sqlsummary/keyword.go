package sqlsummary

// keyword is a word the state machine looks at; all others are noKey.
type keyword uint8

const (
	noKey keyword = iota

	// Words of queries.
	kwAll
	kwAnalyze
	kwAs
	kwAuthorization
	kwCase
	kwConcurrently
	kwDistinct
	kwEnd
	kwExcept // and intersect, union
	kwFor
	kwFrom
	kwFunction // that is called without parentheses, as current_date
	kwGroup
	kwInto
	kwJoin
	kwLateral
	kwNot
	kwOn
	kwOnly
	kwOption // full, freeze, verbose
	kwOther  // looked at only because it's reserved
	kwReturning
	kwSelect
	kwTable
	kwTail // what ends a list of tables: where, having, window, order, limit, offset
	kwTo
	kwUser
	kwUsing
	kwWith

	// Statements that are nothing but an operation.
	kwSimple
	// Other statements.
	kwAlter
	kwBegin
	kwCall
	kwCluster
	kwComment
	kwCopy
	kwCreate
	kwDeclare
	kwDelete
	kwDrop
	kwExplain
	kwFetch
	kwGrant // and revoke
	kwImport
	kwInsert
	kwListen // and unlisten, notify
	kwLock
	kwMerge
	kwPrepare
	kwRefresh
	kwReindex
	kwSet
	kwShow // and reset
	kwStart
	kwTruncate
	kwUpdate
	kwVacuum
	kwValues

	// Words within statements.
	kwAtomic
	kwBinary
	kwCycle // and search
	kwExists
	kwIf
	kwLocal
	kwMaterialized
	kwRecursive
	kwRows
	kwScope // words after SET that name no parameter: transaction, constraints, …
	kwSession
	kwTemp // and temporary, unlogged
	kwTime
	kwUescape
	kwZone

	// Kinds of objects, beside kwTable, kwGroup and kwUser, and words around them.
	kwClass // and family
	kwColumn
	kwConstraint
	kwEvent
	kwGlobal // and other modifiers of CREATE
	kwIndex
	kwMapping
	kwNameless // objects that have no name, or none that is a word
	kwObject   // objects with no rules of their own
	kwOperator
	kwPrefix // words before the kind: foreign, text, …
	kwRole
	kwRoutine
	kwRule
	kwTransaction
	kwTrigger
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
	"authorization": kwAuthorization | reserved, "case": kwCase | reserved, "concurrently": kwConcurrently | reserved,
	"distinct": kwDistinct | reserved, "end": kwEnd | reserved, "except": kwExcept | reserved,
	"intersect": kwExcept | reserved, "union": kwExcept | reserved, "for": kwFor | reserved, "from": kwFrom | reserved,
	"group": kwGroup | reserved, "into": kwInto | reserved, "join": kwJoin | reserved, "lateral": kwLateral | reserved,
	"not": kwNot | reserved, "on": kwOn | reserved, "only": kwOnly | reserved, "full": kwOption | reserved,
	"freeze": kwOption | reserved, "verbose": kwOption | reserved, "returning": kwReturning | reserved,
	"select": kwSelect | reserved, "table": kwTable | reserved, "where": kwTail | reserved, "having": kwTail | reserved,
	"window": kwTail | reserved, "order": kwTail | reserved, "limit": kwTail | reserved, "offset": kwTail | reserved,
	"fetch": kwFetch | reserved, "to": kwTo | reserved, "user": kwUser | reserved, "using": kwUsing | reserved,
	"with": kwWith | reserved, "and": kwOther | reserved, "or": kwGlobal | reserved, "default": kwPrefix | reserved,
	"when": kwOther | reserved, "then": kwOther | reserved, "else": kwOther | reserved, "in": kwOther | reserved,
	"current_catalog": kwFunction | reserved, "current_date": kwFunction | reserved,
	"current_role": kwFunction | reserved, "current_schema": kwFunction | reserved,
	"current_time": kwFunction | reserved, "current_timestamp": kwFunction | reserved,
	"current_user": kwFunction | reserved, "localtime": kwFunction | reserved, "localtimestamp": kwFunction | reserved,
	"session_user": kwFunction | reserved, "system_user": kwFunction | reserved, "do": kwSimple | reserved,
	"create": kwCreate | reserved, "grant": kwGrant | reserved, "binary": kwBinary | reserved,
	"column": kwColumn | reserved, "unique": kwGlobal | reserved, "constraint": kwConstraint | reserved,
	"cast": kwNameless | reserved, "foreign": kwPrefix | reserved, "collation": kwObject | reserved,

	"abort": kwSimple, "checkpoint": kwSimple, "close": kwSimple, "commit": kwSimple, "deallocate": kwSimple,
	"discard": kwSimple, "execute": kwSimple, "load": kwSimple, "move": kwSimple, "reassign": kwSimple,
	"release": kwSimple, "rollback": kwSimple, "savepoint": kwSimple, "security": kwSimple, "alter": kwAlter,
	"begin": kwBegin, "call": kwCall, "cluster": kwCluster, "comment": kwComment, "copy": kwCopy, "declare": kwDeclare,
	"delete": kwDelete, "drop": kwDrop, "explain": kwExplain, "revoke": kwGrant, "import": kwImport, "insert": kwInsert,
	"listen": kwListen, "unlisten": kwListen, "notify": kwListen, "lock": kwLock, "merge": kwMerge,
	"prepare": kwPrepare, "refresh": kwRefresh, "reindex": kwReindex, "set": kwSet, "show": kwShow, "reset": kwShow,
	"start": kwStart, "truncate": kwTruncate, "update": kwUpdate, "vacuum": kwVacuum, "values": kwValues,
	"atomic": kwAtomic, "cycle": kwCycle, "search": kwCycle, "exists": kwExists, "if": kwIf, "local": kwLocal,
	"materialized": kwMaterialized, "recursive": kwRecursive, "rows": kwRows, "session": kwSession, "temp": kwTemp,
	"temporary": kwTemp, "unlogged": kwTemp, "time": kwTime, "uescape": kwUescape, "zone": kwZone,
	"constraints": kwScope, "characteristics": kwScope, "names": kwScope, "class": kwClass, "family": kwClass,
	"event": kwEvent, "global": kwGlobal, "replace": kwGlobal, "trusted": kwGlobal, "procedural": kwGlobal,
	"index": kwIndex, "mapping": kwMapping, "transform": kwNameless, "system": kwNameless, "privileges": kwNameless,
	"owned": kwNameless, "operator": kwOperator, "text": kwPrefix, "access": kwPrefix, "large": kwPrefix,
	"data": kwPrefix, "role": kwRole, "function": kwRoutine, "procedure": kwRoutine, "routine": kwRoutine,
	"rule": kwRule, "policy": kwTrigger, "trigger": kwTrigger, "view": kwView, "transaction": kwTransaction,
	"aggregate": kwObject, "configuration": kwObject, "conversion": kwObject, "database": kwObject,
	"dictionary": kwObject, "domain": kwObject, "extension": kwObject, "language": kwObject, "method": kwObject,
	"object": kwObject, "parameter": kwObject, "parser": kwObject, "publication": kwObject, "schema": kwObject,
	"sequence": kwObject, "server": kwObject, "statistics": kwObject, "subscription": kwObject, "tablespace": kwObject,
	"template": kwObject, "type": kwObject, "wrapper": kwObject,
}
