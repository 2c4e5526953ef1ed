package pgerror

// PlanIsOutdated is asked of the error with which the server refused a prepared statement before executing it. It reports
// whether that may be because the schema has changed since the statement was prepared, or because somebody else has
// deallocated it. Prepared anew, the statement may succeed.
func PlanIsOutdated(err error) bool { return SchemaChanged(err) || deallocated.has(err) }

// SchemaChanged is asked of the same errors. It reports whether a change of the schema may be the reason, so that what other
// connections have prepared is outdated as well.
func SchemaChanged(err error) bool { return changed.has(err) }

var deallocated = setOf(InvalidStatementName)

var changed = setOf(
	FeatureNotSupported, // cached plan must not change result type
	ProtocolViolation,   // bind message has … result formats but query has … columns
	InternalError,       // cache lookup failed for type …
	classSyntaxOrRight,  // what it names doesn't exist, or not for parameters of such types
)

// HasNoSuchValue is asked of the same errors. It reports whether a parameter's type has no value like the one that was given.
// If the parameter has got another type since the statement was prepared, that may have such a value.
func HasNoSuchValue(err error) bool { return noSuchValue.has(err) }

var noSuchValue = setOf(classData)
