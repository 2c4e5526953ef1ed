package settings

import (
	"cmp"
	"net"
	"reflect"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// setConnectTimeout bounds a dial; pgx bounds the dialler with what it parsed, which may not be the last word.
func setConnectTimeout(conn *pgx.ConnConfig, timeout time.Duration) {
	conn.ConnectTimeout = timeout
	conn.DialFunc = (&net.Dialer{Timeout: timeout}).DialContext
}

// poolName is host:port/database, of the first host.
func poolName(conn *pgx.ConnConfig) string {
	address := net.JoinHostPort(conn.Host, strconv.Itoa(int(conn.Port)))
	return address + "/" + cmp.Or(conn.Database, conn.User) // without a database the server takes the user's name
}

// attrs are pgx's checks for target_session_attrs.
var attrs = map[string]pgconn.ValidateConnectFunc{
	"read-write":     pgconn.ValidateConnectTargetSessionAttrsReadWrite,
	"read-only":      pgconn.ValidateConnectTargetSessionAttrsReadOnly,
	"primary":        pgconn.ValidateConnectTargetSessionAttrsPrimary,
	"standby":        pgconn.ValidateConnectTargetSessionAttrsStandby,
	"prefer-standby": pgconn.ValidateConnectTargetSessionAttrsPreferStandby,
}

// targetSessionAttrs recovers the setting, which pgx keeps only as a function, wherever it was given.
func targetSessionAttrs(conn *pgx.ConnConfig) string {
	for name, check := range attrs {
		if reflect.ValueOf(check).Pointer() == reflect.ValueOf(conn.ValidateConnect).Pointer() {
			return name
		}
	}
	return "any"
}
