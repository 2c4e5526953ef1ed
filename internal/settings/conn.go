package settings

import (
	"net"
	"reflect"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// setConnectTimeout limits the dialler for each address. pgx has made it with the connect_timeout that it parsed, which another
// source may have overridden.
func setConnectTimeout(conn *pgx.ConnConfig, timeout time.Duration) {
	conn.DialFunc = (&net.Dialer{Timeout: timeout}).DialContext
}

// attrChecks are the functions with which pgx checks a new connection, by the value of target_session_attrs.
var attrChecks = map[string]pgconn.ValidateConnectFunc{
	"read-write":     pgconn.ValidateConnectTargetSessionAttrsReadWrite,
	"read-only":      pgconn.ValidateConnectTargetSessionAttrsReadOnly,
	"primary":        pgconn.ValidateConnectTargetSessionAttrsPrimary,
	"standby":        pgconn.ValidateConnectTargetSessionAttrsStandby,
	"prefer-standby": pgconn.ValidateConnectTargetSessionAttrsPreferStandby,
}

// targetSessionAttrs returns the value of target_session_attrs, wherever it was given. pgx keeps only the function that
// checks it, so the function is looked up by its address.
func targetSessionAttrs(conn *pgx.ConnConfig) string {
	for name, check := range attrChecks {
		if reflect.ValueOf(check).Pointer() == reflect.ValueOf(conn.ValidateConnect).Pointer() {
			return name
		}
	}
	return "any"
}
