package settings

import "strings"

// optionNames are the names of the settings in libpq's options, which are read as the server reads them: -c name=value,
// -cname=value or --name=value, where a name may have - for _.
func optionNames(options string) (names []string) {
	words := optionWords(options)
	for i, word := range words {
		name, isSetting := strings.CutPrefix(word, "--")
		if !isSetting {
			name, isSetting = strings.CutPrefix(word, "-c")
		}
		if isSetting && name == "" && i+1 < len(words) {
			name = words[i+1]
		}
		if name, _, found := strings.Cut(name, "="); isSetting && found {
			names = append(names, strings.ReplaceAll(name, "-", "_"))
		}
	}
	return names
}

// optionWords divides libpq's options into words. A space or a backslash is part of a word if a backslash is before it.
func optionWords(options string) (words []string) {
	for at := leading(options, spaces); at < len(options); at += leading(options[at:], spaces) {
		var b strings.Builder
		for ; at < len(options) && strings.IndexByte(spaces, options[at]) < 0; at++ {
			if options[at] == '\\' && at+1 < len(options) {
				at++
			}
			b.WriteByte(options[at])
		}
		words = append(words, b.String())
	}
	return words
}
