package diagnose

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/hosts"
	"github.com/pgprod/pgprod/internal/link"
)

// A Kind says what kind of server there is.
type Kind struct {
	Version    string // as the server writes it
	InRecovery bool   // it is a standby
	ReadOnly   bool   // transactions are read-only unless they say otherwise, or it is a standby
}

// errNonsense is the error of a reply that no PostgreSQL gives.
var errNonsense = errors.New("the server's reply makes no sense")

// AskKind asks the server, over a connection, for its version and its kind. When ctx ends the connection is closed.
func AskKind(ctx context.Context, c *link.Conn) (k Kind, err error) {
	const question = "select current_setting('server_version'), pg_is_in_recovery(), current_setting('transaction_read_only')"
	results, err := c.Ask(ctx, question, guard.HangingUp)
	if err = cmp.Or(ctx.Err(), err); err != nil {
		return k, fmt.Errorf("the server doesn't answer: %w", c.Real(err))
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 3 {
		return k, errNonsense
	}
	row := results[0].Rows[0]
	return Kind{Version: string(row[0]), InRecovery: string(row[1]) == "t", ReadOnly: string(row[2]) == "on"}, nil
}

// String says what kind of server it is.
func (k Kind) String() string {
	switch {
	case k.InRecovery:
		return "a standby"
	case k.ReadOnly:
		return "read-only"
	}
	return "a primary"
}

// Role is the kind as a role.
func (k Kind) Role() hosts.Role { return hosts.RoleOf(k.InRecovery, k.ReadOnly) }

// Fits reports whether the server will do where target_session_attrs asks for a kind.
func (k Kind) Fits(targetSessionAttrs string) bool {
	return hosts.Wanted(targetSessionAttrs).Fit(k.Role()) != hosts.Unfit
}
