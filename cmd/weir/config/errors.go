package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Position is where a value was set. Its zero value is nowhere: a default.
type Position struct {
	// File is the file as it was named to Load, or the flag that set the value.
	File string
	// Line counts from 1; 0 where there are no lines.
	Line int

	order int // of the file among those loaded
}

// String gives file:line, or what there is of it.
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// Error is one thing that is wrong with a configuration.
type Error struct {
	Position
	// Message begins with the key that it is about, and never holds a secret.
	Message string
}

// Error gives "file:line: message".
func (e Error) Error() string {
	if e.File == "" {
		return e.Message
	}
	return e.Position.String() + ": " + e.Message
}

// Errors is everything that is wrong with a configuration, in the order of the
// files and their lines. Load returns nothing else.
type Errors []Error

// Error gives one line for each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

func (e *Errors) add(p Position, format string, args ...any) {
	*e = append(*e, Error{p, fmt.Sprintf(format, args...)})
}

// orNil is e sorted and freed of repetitions, or nil if there is nothing in it.
func (e Errors) orNil() error {
	if len(e) == 0 {
		return nil
	}
	slices.SortStableFunc(e, func(a, b Error) int {
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.Line, b.Line))
	})
	return slices.Compact(e)
}
