package settings

import "strings"

// Markdown is the table of settings as Markdown. Tests compare it with the README.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| DSN key | environment | default | sets |\n|---|---|---|---|\n")
	for _, r := range table {
		variable := "`DB_" + r.env() + "`"
		if r.noEnv {
			variable = ""
		}
		initial := r.shown
		if initial == "" {
			initial = r.initial
		}
		b.WriteString("| `" + r.key + "` | " + variable + " | " + initial + " | " + r.sets + " |\n")
	}
	return b.String()
}
