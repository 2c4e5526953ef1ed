package sqlsummary

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestATextIsSplitIntoItsStatements(t *testing.T) {
	for text, want := range map[string][]string{
		"":                               nil,
		" ; ;; -- nothing\n":             nil,
		"select 1":                       {"select 1"},
		"select 1;":                      {"select 1"},
		"/* a; b */ set a = 1":           {"set a = 1"},
		"-- x\nset a = 1; select 1 -- y": {"set a = 1", "select 1"},
		"select ';' ; select $$;$$;select \";\", E'\\';'": {"select ';'", "select $$;$$", "select \";\", E'\\';'"},
		"select /* in; it */ 1 /* behind */ ; reset all":  {"select /* in; it */ 1", "reset all"},
		"select 'open; set a = 1":                         {"select 'open; set a = 1"},
	} {
		assert.Equal(t, want, slices.Collect(Split(text)), "%q", text)
	}
}

func TestTheFirstWordsOfAStatement(t *testing.T) {
	for text, want := range map[string][2]string{
		"": {}, "select 1": {"select", ""}, "SET LOCAL a = 1": {"SET", "LOCAL"}, "  -- x\n set/* /* */ */local a = 1": {"set", "local"},
		"(select 1)": {"", "select"}, "listen": {"listen", ""}, `listen "all"`: {"listen", ""}, "deallocate all;": {"deallocate", "all"},
	} {
		first, second := FirstWords(text)
		assert.Equal(t, want, [2]string{first, second}, "%q", text)
	}
}
