package oracle

import (
	"database/sql"
	"strings"
	"time"
)

// destinations are what rows are scanned into.
var destinations = []string{"any", "string", "int", "NullString", "Time", "bytes", "RawBytes", "a Scanner that fails", "too few"}

// targets makes n destinations of a kind.
func targets(into string, n int) (dests []any) {
	for range n {
		switch into {
		case "string":
			dests = append(dests, new(string))
		case "int":
			dests = append(dests, new(int))
		case "NullString":
			dests = append(dests, new(sql.NullString))
		case "Time":
			dests = append(dests, new(time.Time))
		case "bytes":
			dests = append(dests, new([]byte))
		case "RawBytes":
			dests = append(dests, new(sql.RawBytes))
		case "a Scanner that fails":
			dests = append(dests, new(refusing))
		default:
			dests = append(dests, new(any))
		}
	}
	if into == "too few" && n > 0 {
		dests = dests[1:]
	}
	return dests
}

// scan reads the present row.
func scan(rows *sql.Rows, into string) (string, error) {
	columns, err := rows.Columns()
	if err != nil {
		return "", err
	}
	dests := targets(into, len(columns))
	err = rows.Scan(dests...)
	return showAll(dests), err
}

// scanOne scans a *sql.Row, which doesn't tell how many columns it has.
func scanOne(o *observation, row *sql.Row, into string, width int) {
	dests := targets(into, width)
	err := row.Scan(dests...)
	o.fault("scan", err)
	if err == nil {
		o.note("row", "%s", showAll(dests))
	}
}

func showAll(dests []any) string {
	var values []string
	for _, d := range dests {
		switch d := d.(type) {
		case *any:
			values = append(values, show(*d))
		case *string:
			values = append(values, show(*d))
		case *[]byte:
			values = append(values, show(*d))
		case *sql.RawBytes:
			values = append(values, show([]byte(*d)))
		case *time.Time:
			values = append(values, show(*d))
		case *int:
			values = append(values, show(*d))
		case *sql.NullString:
			values = append(values, show(*d))
		default:
			values = append(values, "?")
		}
	}
	return strings.Join(values, ", ")
}
