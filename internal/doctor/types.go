package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/pgprod/pgprod/internal/link"
)

// typesQuery asks for the types of columns that are not PostgreSQL's own, with one of their columns and how many there are.
// An array counts for its elements, and a domain for the type below it, which is what the server says in results.
const typesQuery = `with columns as (
 select a.attrelid, a.attname, case when t.typtype = 'd' then t.typbasetype else t.oid end as type
 from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
 join pg_type t on t.oid = a.atttypid
 where c.relkind in ('r', 'p', 'v', 'm', 'f') and a.attnum > 0 and not a.attisdropped
 and n.nspname <> 'information_schema' and n.nspname not like 'pg\_%'),
elements as (
 select c.attrelid, c.attname, t.typcategory = 'A' as is_array,
 case when t.typcategory = 'A' then t.typelem else t.oid end as type
 from columns c join pg_type t on t.oid = c.type)
select t.oid::regtype::text, t.typtype, coalesce(x.extname, ''), bool_or(e.is_array), count(*),
 min(e.attrelid::regclass::text || '.' || quote_ident(e.attname))
from elements e join pg_type t on t.oid = e.type join pg_namespace n on n.oid = t.typnamespace
left join pg_depend d on d.classid = 'pg_type'::regclass and d.objid = t.oid and d.deptype = 'e'
left join pg_extension x on x.oid = d.refobjid and d.refclassid = 'pg_extension'::regclass
where n.nspname <> 'pg_catalog' group by t.oid, t.typtype, x.extname order by 1 limit 50`

// These say what makes pgx know a type.
const (
	howToRegister = "see internal/docs/hooks.md"
	register      = "to scan it into a Go type of its own, register it in WithAfterConnect, " + howToRegister
)

// types lists, once, the types of columns that pgx doesn't know by itself, and says what they scan into.
func (p place) types(ctx context.Context, s *session) {
	const check = "types"
	if p.typed {
		return
	}
	p.typed = true
	rows, err := s.ask(ctx, typesQuery)
	if err != nil {
		p.skip(check, "the catalogue doesn't tell: %s", link.SafeText(s.Real(err)))
		return
	}
	for _, row := range rows {
		name, kind, extension := string(row[0]), string(row[1]), string(row[2])
		what, scans, advice := scanning(kind, extension, string(row[3]) == "t")
		where := string(row[5])
		if n := string(row[4]); n != "1" {
			where = n + " columns such as " + where
		}
		text := fmt.Sprintf("%s, %s, in %s: %s", name, what, where, scans)
		if advice == "" {
			p.ok(check, "%s", text)
		} else {
			p.warn(check, advice, "%s", text)
		}
	}
	if len(rows) == 0 {
		p.ok(check, "all columns have types that pgx knows")
	}
}

// helpers are packages that register the types of an extension.
var helpers = map[string]string{
	"vector":  "github.com/pgvector/pgvector-go/pgx registers it",
	"postgis": "github.com/twpayne/pgx-geom registers it; or select ST_AsBinary or ST_AsGeoJSON",
	"hstore":  "pgtype.HstoreCodec serves it",
}

// asText are the extensions whose types are texts to a program.
const asText = " citext ltree isn "

// scanning says what a type is, by pg_type.typtype and its extension, what a column of it scans into as it is, and what to
// do for more; "": nothing.
func scanning(typtype, extension string, isArray bool) (what, scans, advice string) {
	what = map[string]string{
		"e": "an enum", "c": "a composite", "r": "a range", "m": "a multirange", "d": "a domain",
	}[typtype]
	if extension != "" {
		what = strings.TrimSpace(what + " of the extension " + extension)
	} else if what == "" {
		what = "a type of its own"
	}
	plain := typtype == "e" || typtype == "d" || strings.Contains(asText, " "+extension+" ")
	switch {
	case plain && !isArray:
		return what, "scans into a string", ""
	case plain:
		return what, "scans into a string, but an array of it also into one string, such as {a,b}",
			"to scan arrays into a slice, register type and array in WithAfterConnect, " + howToRegister
	case helpers[extension] != "":
		return what, "scans into a string, in the server's notation", helpers[extension] + ", in WithAfterConnect"
	}
	return what, "scans into a string, in the server's notation", register
}
