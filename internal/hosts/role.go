package hosts

// Role is what a server is.
type Role uint8

const (
	NoRole   Role = iota // not known
	Primary              // it takes writes
	ReadOnly             // it is no standby, and its transactions are read-only unless they say otherwise
	Standby              // it is in recovery
	Deposed              // it takes itself for the primary, but another host has been promoted in its place
)

// String is the role in words, for people and metrics; "" if it isn't known.
func (r Role) String() string {
	return [...]string{"", "primary", "read-only", "standby", "deposed"}[r]
}

// RoleOf returns the role of a server by whether it is in recovery, and whether transactions are read-only by default.
func RoleOf(inRecovery, readOnly bool) Role {
	switch {
	case inRecovery:
		return Standby
	case readOnly:
		return ReadOnly
	}
	return Primary
}

// Wanted is a value of target_session_attrs; "" is any.
type Wanted string

// A Fit says whether a server is what target_session_attrs asks for.
type Fit uint8

const (
	Unfit  Fit = iota
	Second     // it will do if there is no better one: a primary for prefer-standby
	Maybe      // its role isn't known
	Fits
)

// Fit returns whether a server in that role is what is wanted.
func (w Wanted) Fit(r Role) Fit {
	switch {
	case w == "any" || w == "":
		return Fits
	case r == NoRole:
		return Maybe
	case w == "read-write" && r == Primary,
		w == "read-only" && (r == ReadOnly || r == Standby),
		w == "primary" && (r == Primary || r == ReadOnly),
		(w == "standby" || w == "prefer-standby") && r == Standby:
		return Fits
	case w == "prefer-standby":
		return Second
	}
	return Unfit
}

// OnlyPrimaries reports whether at most one server of a cluster is what is wanted: the one that takes writes.
func (w Wanted) OnlyPrimaries() bool { return w == "read-write" || w == "primary" }
