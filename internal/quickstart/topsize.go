package main

import (
	"os"
	"strconv"
)

// size returns the columns and rows of the screen: what the terminal says, or COLUMNS and LINES, or 80 and 24.
func (t *terminal) size() (columns, rows int) {
	if columns, rows = windowSize(t.File); columns > 0 && rows > 0 {
		return columns, rows
	}
	return number(os.Getenv("COLUMNS"), 80), number(os.Getenv("LINES"), 24)
}

// number is a text as a number above 0, or another number.
func number(text string, otherwise int) int {
	if n, err := strconv.Atoi(text); err == nil && n > 0 {
		return n
	}
	return otherwise
}

// widthFor returns how wide lines may be: as wide as the screen, or COLUMNS; 0, which is no limit, in a file or a pipe.
func widthFor(t *terminal) int {
	if isTerminal(t.File) {
		columns, _ := t.size()
		return columns
	}
	return number(os.Getenv("COLUMNS"), 0)
}
