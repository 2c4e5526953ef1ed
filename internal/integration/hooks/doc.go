// Package hooks tests what a program's own code takes part in: connections through a connector as those of cloud providers are,
// and through a tunnel of SSH; and types of pgvector's, registered on each connection.
package hooks
