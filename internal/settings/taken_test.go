package settings

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/docs"
)

func TestWordsOfOthersThatMeanTheSameAreTaken(t *testing.T) {
	for dsn, want := range map[string]string{
		"jdbc:postgresql://h:1/d?user=u&password=p&ApplicationName=a&currentSchema=x,%22Y%22&tcpKeepAlive=true": "postgres://h:1/d?user=u&password=p&application_name=a&search_path=x,%22Y%22",
		"jdbc:postgresql://h/d?ssl=true&connectTimeout=10":                                                      "postgres://h/d?sslmode=verify-full&connect_timeout=10",
		"jdbc:postgresql://h/d?ssl=true&sslmode=require":                                                        "postgres://h/d?sslmode=require",
		"postgresql+psycopg2://u:p@h/d":                                                                         "postgres://u:p@h/d",
		"postgresql+asyncpg://u:p@h/d?ssl=require":                                                              "postgres://u:p@h/d?sslmode=require",
		"postgis://u:p@h/d":                                    "postgres://u:p@h/d",
		"postgres://u:p@h/d?schema=public":                     "postgres://u:p@h/d?search_path=public",
		"postgres://u:p@h/d?schema=My+%22App%22&x=y":           "postgres://u:p@h/d?search_path=%22My%2B%22%22App%22%22%22&x=y",
		"postgres://u:p@h/d?schema=a&search_path=b":            "postgres://u:p@h/d?schema=a&search_path=b",
		"postgres://u:p@h/d?sslmode=no-verify&x=y":             "postgres://u:p@h/d?sslmode=require&x=y",
		"postgres://u:p@h/d?uselibpqcompat=true&sslmode=allow": "postgres://u:p@h/d?sslmode=allow",
		"postgres://u:p@h/d?uselibpqcompat=false":              "postgres://u:p@h/d?uselibpqcompat=false",
		"postgres://u:p@h/d?encoding=utf8&adapter=postgresql":  "postgres://u:p@h/d",
		"postgres://u:p@h/d?encoding=latin1":                   "postgres://u:p@h/d?encoding=latin1",
		"postgres://u:p@h/d?connectTimeout=10":                 "postgres://u:p@h/d?connectTimeout=10",
		"postgres://u:p@h/d?ssl=true":                          "postgres://u:p@h/d?ssl=true",
		"postgres://u:p@h/d?keepalives=0&gssencmode=require":   "postgres://u:p@h/d?keepalives=0&gssencmode=require",
		"postgres://u:schema=x@h/schema=x?x=schema=x":          "postgres://u:schema=x@h/schema=x?x=schema=x",
		"host=h schema=public":                                 "host=h schema=public",
		"":                                                     "",
	} {
		assert.Equal(t, want, take(dsn), dsn)
	}
}

// providersURLs are what providers' and libraries' own pages show, with secrets made up, and what has to be in the error; "":
// they are taken as they are.
var providersURLs = []struct{ of, url, refused string }{
	{"Heroku", "postgres://uabc:pdef@ec2-1-2-3-4.compute-1.amazonaws.com:5432/dghi", ""},
	{"Heroku, node-postgres", "postgres://uabc:pdef@ec2-1-2-3-4.compute-1.amazonaws.com:5432/dghi?sslmode=no-verify", ""},
	{"Supabase, direct", "postgresql://postgres:s3cret@db.abcdefghijklmnop.supabase.co:5432/postgres", ""},
	{"Supabase, as its page shows it", "postgresql://postgres:[YOUR-PASSWORD]@db.abcdefghijklmnop.supabase.co:5432/postgres", "DSN key password: is a placeholder"},
	{"Supabase, pooler", "postgresql://postgres.abcdefghijklmnop:s3cret@aws-0-eu-central-1.pooler.supabase.com:6543/postgres", ""},
	{"Supabase for Prisma", "postgres://postgres.abcdefghijklmnop:s3cret@aws-0-eu-central-1.pooler.supabase.com:6543/postgres?pgbouncer=true&connection_limit=1",
		"DSN key pgbouncer: is Prisma's; leave it out, default_query_exec_mode=exec serves"},
	{"Supabase by Vercel", "postgres://postgres.abcdefghijklmnop:s3cret@aws-0-eu-central-1.pooler.supabase.com:6543/postgres?sslmode=require&supa=base-pooler.x",
		"DSN key supa: "},
	{"Neon", "postgresql://alex:s3cret@ep-cool-darkness-123456-pooler.us-east-2.aws.neon.tech/dbname?sslmode=require&channel_binding=require", ""},
	{"Neon without SNI", "postgresql://alex:s3cret@ep-cool-darkness-123456.us-east-2.aws.neon.tech/dbname?options=endpoint%3Dep-cool-darkness-123456&sslmode=require", ""},
	{"RDS", "postgres://app:s3cret@mydb.abcdefg.eu-west-1.rds.amazonaws.com:5432/app?sslmode=require", ""},
	{"Render", "postgresql://user:s3cret@dpg-abc123-a.oregon-postgres.render.com/dbname", ""},
	{"Railway", "postgresql://postgres:s3cret@containers-us-west-1.railway.app:6543/railway", ""},
	{"Fly", "postgres://app:s3cret@top2.nearest.of.app-db.internal:5432/app?sslmode=disable", ""},
	{"DigitalOcean", "postgresql://doadmin:s3cret@db-postgresql-fra1-1-do-user-1-0.b.db.ondigitalocean.com:25060/defaultdb?sslmode=require", ""},
	{"Azure", "postgres://app%40server:s3cret@server.postgres.database.azure.com/postgres?sslmode=require", ""},
	{"Crunchy Bridge", "postgres://application:s3cret@p.abcdefg.db.postgresbridge.com:5432/postgres", ""},
	{"Aiven", "postgres://avnadmin:s3cret@pg-1-project.aivencloud.com:12345/defaultdb?sslmode=require", ""},
	{"CockroachDB", "postgresql://user:s3cret@free-tier.gcp-us-central1.cockroachlabs.cloud:26257/defaultdb?sslmode=require&options=--cluster%3Dcluster-1", ""},
	{"Vercel", "postgres://default:s3cret@ep-x-pooler.us-east-1.aws.neon.tech:5432/verceldb?workaround=supabase-pooler.vercel", "DSN key workaround: "},
	{"Prisma", "postgresql://johndoe:s3cret@localhost:5432/mydb?schema=public", ""},
	{"Prisma, tuned", "postgresql://johndoe:s3cret@localhost:5432/mydb?schema=public&connection_limit=5&pool_timeout=2&socket_timeout=3",
		"DSN key connection_limit: is Prisma's; pool_size and max_overflow serve here"},
	{"Prisma, TLS", "postgresql://johndoe:s3cret@localhost:5432/mydb?sslmode=require&sslaccept=strict", "DSN key sslaccept: "},
	{"Rails", "postgresql://user:s3cret@localhost:5432/app?encoding=utf8&pool=5", "DSN key pool: is another pool's; pool_size and max_overflow serve here"},
	{"Rails, plain", "postgresql://user:s3cret@localhost:5432/app?encoding=unicode", ""},
	{"Rails, statements", "postgresql://user:s3cret@localhost/app?prepared_statements=false", "DSN key prepared_statements: "},
	{"JDBC", "jdbc:postgresql://localhost:5432/test?user=fred&password=s3cret&sslmode=require&currentSchema=app&ApplicationName=app&connectTimeout=10", ""},
	{"JDBC, tuned", "jdbc:postgresql://localhost/test?user=fred&password=s3cret&prepareThreshold=0", "DSN key prepareThreshold: is JDBC's; "},
	{"JDBC, hosts", "jdbc:postgresql://h1:5432,h2:5432/test?user=fred&password=s3cret&targetServerType=primary", "DSN key targetServerType: "},
	{"SQLAlchemy", "postgresql+psycopg://scott:s3cret@localhost:5432/mydatabase", ""},
	{"SQLAlchemy, asyncpg", "postgresql+asyncpg://scott:s3cret@localhost/test?ssl=require", ""},
	{"SQLAlchemy, asyncpg's cache", "postgresql+asyncpg://scott:s3cret@localhost/test?prepared_statement_cache_size=0", "DSN key prepared_statement_cache_size: "},
	{"Django", "postgis://user:s3cret@localhost:5432/db?conn_max_age=600", "DSN key conn_max_age: "},
	{"Cloud SQL", "postgresql://user:s3cret@/db?host=/cloudsql/project:region:instance", ""},
	{"a password with #", "postgres://user:s3#cret@localhost/db", ""},
	{"a password with /", "postgres://user:s3/cret@localhost/db", "DSN"},
	{"a password with %", "postgres://user:s3%cret@localhost/db", "DSN: is not a URL: a % in it"},
	{"a password with @", "postgres://user:s3@cret@localhost/db", "DSN: has an @ where none can be"},
	{"a password with ?", "postgres://user:s3?cret@localhost/db", ""},
	{"twice the same key", "postgres://user:s3cret@localhost/db?sslmode=disable&sslmode=require", ""},
}

func TestTheURLsOfProvidersAreTakenOrRefusedByName(t *testing.T) {
	for _, p := range providersURLs {
		if p.refused == "" {
			c := load(t, p.url)
			assert.Contains(t, []string{"s3cret", "pdef", "s3#cret", "s3?cret"}, c.Conn.Password, p.of)
			continue
		}
		text := refused(t, p.url)
		assert.Contains(t, text, "pgprod: "+p.refused, p.of)
		assert.NotContains(t, text, "s3", p.of)
		assert.NotContains(t, text, "cret", p.of)
	}
}

func TestTheManualHasTheWordsOfOthers(t *testing.T) {
	page, err := docs.Read("internal/docs/urls.md")
	require.NoError(t, err)
	takes, refuses := WordsMarkdown()
	assert.Contains(t, page, "\n"+takes+"\n")
	assert.Contains(t, page, "\n"+refuses)
}
