package pgerror

// HasNoSuchStatement reports whether the server has no prepared statement of the name that it was asked to execute.
func HasNoSuchStatement(err error) bool { return deallocated.has(err) }

// NamesSetting reports whether the server's refusal of a setting is about its name alone, so that the message doesn't have the
// value.
func NamesSetting(err error) bool { return settingNames.has(err) }

var settingNames = setOf(UndefinedObject, InvalidName, InsufficientPrivilege, CantChangeRuntimeParam)

// PlanIsOutdated reports whether the server may have refused a prepared statement because the schema has changed since it
// was prepared, or because somebody else has deallocated it. Then the statement may succeed if it is prepared anew. err must
// be the error by which the server has refused the statement before executing it.
func PlanIsOutdated(err error) bool { return SchemaChanged(err) || deallocated.has(err) }

// SchemaChanged reports whether a change of the schema may be the reason of such an error. Then what other connections have
// prepared is outdated as well.
func SchemaChanged(err error) bool { return changed.has(err) }

var deallocated = setOf(InvalidStatementName)

var changed = setOf(
	FeatureNotSupported, // cached plan must not change result type
	ProtocolViolation,   // bind message has … result formats but query has … columns
	InternalError,       // cache lookup failed for type …
	classSyntaxOrRight,  // what it names doesn't exist, or not for parameters of such types
)

// HasNoSuchValue reports whether such an error says that a parameter's type has no value like the one that was given. If the
// parameter's type has changed since the statement was prepared, the new type may have such a value.
func HasNoSuchValue(err error) bool { return noSuchValue.has(err) }

var noSuchValue = setOf(classData)
