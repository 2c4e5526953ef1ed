package settings

// Given is what a program gives in code besides Values.
type Given struct {
	Dials bool // a function of its own makes network connections, which may be encrypted without TLS of pgx's
}
