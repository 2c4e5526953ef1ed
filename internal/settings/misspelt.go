package settings

import (
	"slices"
	"strings"
)

// hints say, by keys of other libraries in small letters, what to use here instead.
var hints = map[string]string{
	"pool_max_conns":                 "is pgxpool's; pool_size and max_overflow serve here",
	"pool_min_conns":                 "is pgxpool's; pool_min serves here",
	"pool_min_idle_conns":            "is pgxpool's; pool_min serves here",
	"pool_max_conn_lifetime":         "is pgxpool's; pool_recycle serves here",
	"pool_max_conn_lifetime_jitter":  "is pgxpool's; pool_recycle has jitter here",
	"pool_max_conn_idle_time":        "is pgxpool's; pool_idle_timeout serves here",
	"pool_health_check_period":       "is pgxpool's; pool_pre_ping serves here",
	"pool_ping_timeout":              "is pgxpool's; pool_pre_ping serves here",
	"binary_parameters":              "is lib/pq's; leave it out, default_query_exec_mode serves here",
	"disable_prepared_binary_result": "is lib/pq's; leave it out",
	"fallback_application_name":      "is libpq's; application_name serves here",
	"hostaddr":                       "is libpq's; host serves here",
	"sslinline":                      "is lib/pq's; sslcert, sslkey and sslrootcert are files here",
	"ssl":                            "must be true, in a URL; sslmode serves otherwise",

	"gssencmode":          "is libpq's; leave it out, there is no encryption by GSS here",
	"gssdelegation":       "is libpq's; leave it out",
	"gsslib":              "is libpq's; leave it out",
	"keepalives":          keepAlive,
	"keepalives_idle":     keepAlive,
	"keepalives_interval": keepAlive,
	"keepalives_count":    keepAlive,
	"tcp_user_timeout":    "is libpq's; leave it out, command_timeout serves here",
	"requirepeer":         "is libpq's; leave it out, there is no such check here",
	"requiressl":          "is libpq's; sslmode=require serves here",
	"sslcompression":      "is libpq's; leave it out",
	"sslcrl":              "is libpq's; there are no revocation lists here",
	"sslcrldir":           "is libpq's; there are no revocation lists here",

	"ssl_min_protocol_version": "is libpq's; leave it out, TLS is 1.2 or later here",
	"ssl_max_protocol_version": "is libpq's; leave it out",

	"tz":              "is not read; timezone serves here",
	"applicationname": "is JDBC's; application_name serves here",
	"currentschema":   "is JDBC's; search_path serves here",
	"schema":          "is not libpq's; search_path serves here",

	// Misspellings of password and of what goes with it. Taken for a parameter of the server, the password would be in the
	// startup message.
	"passwd":   "is not a key; password serves here",
	"pwd":      "is not a key; password serves here",
	"pass":     "is not a key; password serves here",
	"username": "is not a key; user serves here",
	"uid":      "is not a key; user serves here",
	"server":   "is not a key; host serves here",
	"id":       "is not a key; a DSN is postgres://user@host:port/database?key=value&… or key=value pairs",
}

const keepAlive = "is libpq's; leave it out, TCP's keep-alive is on here"

// pgxKeys are the keys that pgx itself understands; it doesn't send them to the server as parameters.
var pgxKeys = strings.Fields(`host port database dbname user password passfile connect_timeout sslmode sslkey sslcert
	sslcertmode sslrootcert sslnegotiation sslpassword sslsni krbspn krbsrvname target_session_attrs service servicefile
	min_protocol_version max_protocol_version channel_binding require_auth statement_cache_capacity
	description_cache_capacity default_query_exec_mode`)

// misspelt says what is wrong with a key of a DSN that isn't one of ours; "" if it may be a parameter of the server.
func misspelt(key string) string {
	small := strings.ToLower(key)
	if hint, ok := hints[small]; ok {
		return hint
	}
	if hint, ok := foreignHints[small]; ok {
		return hint
	}
	if slices.Contains(pgxKeys, small) {
		if key != small {
			return "is written in small letters: " + small
		}
		return ""
	}
	if r := nearest(key); r != nil {
		return "is not a setting; did you mean " + r.key + "?"
	}
	if strings.HasPrefix(small, "pool_") {
		return "is not a setting; there are " + strings.Join(keys(), ", ")
	}
	if !isSettingName(key) {
		return "is not a name; a DSN is postgres://user@host:port/database?key=value&… or key=value pairs"
	}
	return ""
}

// keys are the DSN keys of all settings.
func keys() []string {
	all := make([]string, len(table))
	for i, r := range table {
		all[i] = r.key
	}
	return all
}

// nearest returns the row whose key differs from key by at most two letters, by one if the row's key is short; nil if none
// does.
func nearest(key string) *row {
	if len(key) > 63 {
		return nil // none of ours is nearly as long
	}
	key = strings.ToLower(key)
	var best *row
	least := 3
	for i := range table {
		limit := 2
		if len(table[i].key) < 6 {
			limit = 1
		}
		if d := distance(key, table[i].key); d <= limit && d < least {
			best, least = &table[i], d
		}
	}
	return best
}

// distance is how many letters must be inserted, deleted, replaced or swapped with their neighbour to get from a to b.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
