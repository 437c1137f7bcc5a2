// Package rule reads the conditions that operators write: expressions of the Common Expression
// Language (github.com/google/cel-spec) that are true or false. What they may name, and what they
// are true of, is whose rules they are: authz/policy asks them of requests, origin/lifetime of images.
package rule

import (
	"fmt"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common"
	"github.com/google/cel-go/common/types/ref"
)

const (
	// MostCost bounds what one evaluation may cost, in CEL's units: what Kubernetes takes
	// for about a tenth of a second.
	MostCost = 1_000_000
	// InterruptEvery is after how many steps of a loop the context is looked at.
	InterruptEvery = 100
	// Longest is how long a rule may be, in bytes.
	Longest = 16 << 10
)

// Error says what is wrong with the text of a rule.
type Error struct {
	// Line and Column are where, from 1; Line is 0 where it is about all of it.
	Line, Column int
	Message      string
}

// Error gives the place, without the line if there is but one, and the message.
func (e *Error) Error() string {
	switch e.Line {
	case 0:
		return e.Message
	case 1:
		return fmt.Sprintf("column %d: %s", e.Column, e.Message)
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
}

// Language is what rules are written in, and what is said of what is none.
type Language struct {
	Env   *cel.Env
	Empty string        // what a rule without text would do
	Knows string        // the names that a rule may begin with
	Has   func() string // the fields that there are
}

// Check compiles a rule, and checks that it names what there is and may be true or false.
// Errors: *Error.
func (l Language) Check(source string) (*cel.Ast, error) {
	switch {
	case strings.TrimSpace(source) == "":
		return nil, &Error{Message: "the rule is empty: it " + l.Empty}
	case len(source) > Longest:
		return nil, &Error{Message: fmt.Sprintf("the rule is longer than %d bytes", Longest)}
	}
	checked, issues := l.Env.Compile(source)
	if issues.Err() != nil {
		return nil, l.refused(issues.Errors())
	}
	if kind := checked.OutputType(); !kind.IsExactType(cel.BoolType) && !kind.IsExactType(cel.DynType) {
		return nil, &Error{Message: fmt.Sprintf("the rule is a %s, neither true nor false", Shown(kind.String()))}
	}
	return checked, nil
}

// refused is the first of what CEL complains of, with what would have been right.
func (l Language) refused(errs []*common.Error) error {
	if len(errs) == 0 {
		return &Error{Message: "the rule cannot be read"}
	}
	first := errs[0]
	message := Shown(strings.TrimSpace(first.Message))
	switch {
	case strings.HasPrefix(message, "undefined field"):
		message += ": " + l.Has()
	case strings.HasPrefix(message, "undeclared reference to"):
		message = strings.TrimSuffix(message, " (in container '')") + ": a rule knows " + l.Knows
	}
	if first.Location.Column() < 0 || first.Location.Line() < 1 {
		return &Error{Message: message}
	}
	return &Error{Line: first.Location.Line(), Column: first.Location.Column() + 1, Message: message}
}

// Truth is what a rule came to. Errors: it is neither true nor false.
func Truth(value ref.Val) (bool, error) {
	is, ok := value.Value().(bool)
	if !ok {
		return false, fmt.Errorf("it is a %s, neither true nor false", Shown(value.Type().TypeName()))
	}
	return is, nil
}

// Shown is a text of CEL's on one line, without the @ that names begin with which no rule can
// write.
func Shown(s string) string { return strings.Join(strings.Fields(strings.ReplaceAll(s, "@", "")), " ") }
