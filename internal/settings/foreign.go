package settings

import (
	"regexp"
	"strings"
)

// foreign are keys that providers of databases, poolers and libraries of other languages put into a URL. The server doesn't
// know them, and would refuse every connection with "unrecognized configuration parameter". The words of a row are in small
// letters and have the same hint. No run-time parameter of PostgreSQL, or of a server that speaks its protocol, may be here:
// those are allowed in a DSN.
var foreign = []struct{ words, hint string }{
	// Prisma, and the providers that show URLs for it.
	{"connection_limit", "is Prisma's; pool_size and max_overflow serve here"},
	{"pgbouncer", "is Prisma's; leave it out, default_query_exec_mode=exec serves behind a pooler in transaction mode"},
	{"socket_timeout", "is Prisma's; command_timeout serves here"},
	{"single_use_connections", "is Prisma's; leave it out"},
	{"max_connection_lifetime", "is Prisma's; pool_recycle serves here"},
	{"max_idle_connection_lifetime", "is Prisma's; pool_idle_timeout serves here"},
	{"sslaccept sslidentity", "is Prisma's; sslmode, sslrootcert, sslcert and sslkey serve here"},
	{"statement_cache_size prepared_statement_cache_size", "is another library's; statement_cache_capacity serves here"},
	{"api_key", "is Prisma Accelerate's, which is no PostgreSQL: give the URL of the database itself"},
	{"supa workaround", "is for Supabase's console or Vercel; leave it out"},
	{"endpoint project", "is Neon's; leave it out, pgx tells the endpoint by the host's name; or write options=endpoint%3D…"},
	{"branch", "is a provider's; leave it out, the host names the branch"},

	// JDBC and R2DBC, with the pools that are used on top.
	{"preparethreshold preparedstatementcachequeries preparedstatementcachesizemib preferquerymode",
		"is JDBC's; default_query_exec_mode and statement_cache_capacity serve here"},
	{"rewritebatchedinserts", "is JDBC's; leave it out, SendBatch and CopyFrom in pgprod.Raw serve here"},
	{"sockettimeout querytimeout cancelsignaltimeout", "is JDBC's; command_timeout serves here"},
	{"logintimeout connecttimeout sslresponsetimeout gssresponsetimeout", "is JDBC's; connect_timeout serves here"},
	{"tcpkeepalive tcpnodelay keepalive keepaliveinitialdelaymillis keepalives_retries", keepAliveOf("another library's")},
	{"targetservertype", "is JDBC's; target_session_attrs serves here"},
	{"loadbalancehosts hostrecheckseconds load_balance topology_keys yb_servers_refresh_interval fallback_to_topology_keys_only " +
		"failed_host_reconnect_delay_secs", "is JDBC's; load_balance_hosts serves here"},
	{"channelbinding", "is JDBC's; channel_binding serves here"},
	{"sslfactory sslfactoryarg sslhostnameverifier sslpasswordcallback trustservercertificate rejectunauthorized sslca",
		"is another library's; sslmode and sslrootcert serve here"},
	{"readonly readonlymode", "is JDBC's; default_transaction_read_only serves here"},
	{"serverversion", "is Doctrine's; leave it out"},
	{"defaultrowfetchsize adaptivefetch adaptivefetchminimum adaptivefetchmaximum stringtype autosave cleanupsavepoints " +
		"binarytransfer binarytransferenable binarytransferdisable loggerlevel loggerfile logunclosedconnections " +
		"logservererrordetail assumeminserverversion allowencodingchanges databasemetadatacachefields " +
		"databasemetadatacachefieldsmib disablecolumnsanitiser escapesyntaxcallmode groupstartupparameters " +
		"hideunprivilegedobjects maxresultbuffer maxsendbuffersize quotereturningidentifiers receivebuffersize sendbuffersize " +
		"unknownlength socketfactory socketfactoryarg localsocketaddress xmlfactoryfactory authenticationpluginclassname " +
		"convertbooleantonumeric protocolversion jaasapplicationname jaaslogin kerberosservername usespnego sspiserviceclass " +
		"gssusedefaultcreds", "is JDBC's; leave it out"},
	{"maximumpoolsize maxpoolsize maxsize max_size", poolSize},
	{"minimumidle minpoolsize minsize min_size min_connections min_idle min_idle_conns", "is another pool's; pool_min serves here"},
	{"connectiontimeout connectiontimeoutmillis checkout_timeout acquire_timeout", "is another pool's; pool_timeout serves here"},
	{"idletimeout idletimeoutmillis idle_timeout max_idle max_idle_time max_inactive_connection_lifetime reaping_frequency",
		"is another pool's; pool_idle_timeout serves here"},
	{"maxlifetime maxlifetimeseconds max_lifetime max_age conn_max_age conn_max_lifetime connectionlifetime maxuses max_queries",
		"is another pool's; pool_recycle serves here"},

	// Rails, Django, SQLAlchemy, asyncpg, psycopg, Ecto.
	{"pool max max_open_conns maxopenconns poolsize pool_count", poolSize},
	{"max_idle_conns maxidleconns", "is another pool's; pool_size connections are kept here"},
	{"prepared_statements prepare prepare_threshold statement_limit max_cached_statement_lifetime prepared_statement_name_func " +
		"disable_server_side_cursors prefer_simple_protocol statement_cache_mode",
		"is another library's; default_query_exec_mode and statement_cache_capacity serve here"},
	{"schema_search_path searchpath search-path", "is not a parameter of the server; search_path serves here"},
	{"conn_health_checks pre_ping", "is another library's; pool_pre_ping serves here"},
	{"query_timeout read_timeout write_timeout", "is another library's; command_timeout serves here"},
	{"dial_timeout timeout", "is another library's; connect_timeout serves here for a dial, pool_timeout for the wait for a connection, " +
		"command_timeout for a statement"},
	{"encoding charset", "is another library's; leave it out, texts are UTF8 here"},
	{"min_messages", "is Rails's; client_min_messages serves here"},
	{"ssl_require require_ssl usessl sslrequire direct_tls", "is another library's; sslmode=require serves here"},
	{"sslservername servername", "is another library's; sslmode=verify-full checks the host's name here"},
	{"adapter driver dialect type engine variables advisory_locks insert_returning reconnect autocommit isolation_level " +
		"row_factory async_fallback executemany_mode executemany_batch_page_size use_native_hstore atomic_requests queue_target " +
		"queue_interval socket_dir uselibpqcompat binary fetch_types parseinputdatesasutc allowexitonidle logging synchronize " +
		"entities migrations enlist pooling multiplexing parsetime multistatements persistent default_dbname",
		"is another library's; leave it out"},
	{"database_url db_url dsn url uri connection_string connectionstring", "is not a key: give what stands behind it alone"},
	{"db", "is not a key; dbname serves here, or the path of a URL"},
	{"databasename pgdbname pgdatabase", "is not a key; dbname serves here"},
	{"pghost hostname address", "is not a key; host serves here"},
	{"pgport", "is not a key; port serves here"},
	{"pguser login", "is not a key; user serves here"},
	{"pgpassword secret token", "is not a key; password serves here"},
	{"pgoptions", "is a variable; options serves here"},
	{"pgsslmode ssl-mode ssl_mode tls tlsmode", "is not a key; sslmode serves here"},
	{"ssl-root-cert ssl_root_cert ssl-ca ssl_ca rootcert root_cert cacert", "is not a key; sslrootcert serves here"},
	{"ssl-cert client_cert clientcertificate", "is not a key; sslcert serves here"},
	{"ssl-key client_key clientcertificatekey", "is not a key; sslkey serves here"},
	{"statement-cache-capacity", "is not a key; statement_cache_capacity serves here"},
	{"x-migrations-table x-migrations-table-quoted x-statement-timeout x-multi-statement x-multi-statement-max-size x-lock-strategy " +
		"x-lock-table", "is golang-migrate's; leave it out"},

	// libpq's that pgx doesn't know.
	{"scram_client_key scram_server_key oauth_issuer oauth_client_id oauth_client_secret oauth_scope", "is libpq's; WithCredentials serves here"},
	{"sslkeylogfile", "is libpq's; leave it out"},
}

const poolSize = "is another pool's; pool_size and max_overflow serve here"

func keepAliveOf(whose string) string {
	return "is " + whose + "; leave it out, TCP's keep-alive is on here"
}

// foreignHints are the hints of foreign by word.
var foreignHints = func() map[string]string {
	all := map[string]string{}
	for _, f := range foreign {
		for word := range strings.FieldsSeq(f.words) {
			all[word] = f.hint
		}
	}
	return all
}()

// scheme matches the beginning of a URL, also of one in quotes, and finds the name of its scheme.
var scheme = regexp.MustCompile(`^["'<]?([A-Za-z][A-Za-z0-9+.:_-]*)://`)

// foreignURL says what is wrong with a DSN that is a URL, but not one for pgx; "": nothing, or it is no URL.
func foreignURL(dsn string) string {
	found := scheme.FindStringSubmatch(dsn)
	if found == nil {
		return ""
	}
	name := strings.ToLower(found[1])
	main, driver, named := strings.Cut(name, "+")
	switch is := func(name string) bool { return name == "postgres" || name == "postgresql" }; {
	case strings.ContainsAny(dsn[:1], `"'<`) && is(name):
		return "is in quotes: leave them out"
	case is(found[1]):
		return ""
	case is(name):
		return "begins with capital letters: write postgres://"
	case strings.HasPrefix(name, "jdbc:"), strings.HasPrefix(name, "r2dbc:"):
		return "is JDBC's: write postgres:// in place of jdbc:postgresql://, and user and password in front of the host"
	case named && is(main) && driver != "":
		return "is SQLAlchemy's: write postgres:// or postgresql://, without the name of a driver"
	}
	return "can't be read: its URL begins with neither postgres:// nor postgresql://"
}
