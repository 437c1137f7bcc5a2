package policy

import (
	"fmt"
	"regexp"
	"regexp/syntax"

	"github.com/google/cel-go/common/overloads"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"

	"github.com/weir-registry/weir/origin/rule"
)

const (
	// stepsPerCost is how many steps of a pattern are one of CEL's units: a step, which is
	// one instruction of its program at one byte of the text, takes 2 to 9 ns where it is
	// slow, and a unit is thought to be 100.
	stepsPerCost = 10
	// mostMatch bounds what one match may cost: it cannot be interrupted.
	mostMatch = rule.MostCost / 10
	// mostSteps bounds the program of a pattern: one that is larger could be asked about
	// no text of 255 bytes.
	mostSteps = 3_000
	// longestPattern bounds a pattern that is not written in the rule, in bytes: it is
	// compiled each time, and may be whatever somebody says of themselves.
	longestPattern = 1 << 10
)

// pattern is a regular expression and how large its program is. CEL's own count goes by
// the length of its text, in which "{1000}" is six characters.
type pattern struct {
	*regexp.Regexp
	steps int
}

func parsePattern(text string) (pattern, error) {
	re, err := regexp.Compile(text)
	if err != nil {
		return pattern{}, err
	}
	parsed, err := syntax.Parse(text, syntax.Perl) // as regexp does
	if err != nil {
		return pattern{}, err
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return pattern{}, err
	}
	return pattern{re, len(program.Inst)}, nil
}

// cost is what it may cost, in CEL's units, to look for the pattern in so many bytes.
func (p pattern) cost(bytes int) uint64 {
	return 1 + uint64(bytes+1)*uint64(p.steps)/stepsPerCost
}

// match reports whether the pattern is in a text, if that is worth it.
func (p pattern) match(text string) ref.Val {
	if p.steps > mostSteps || p.cost(len(text)) > mostMatch {
		return types.NewErr("the pattern takes too long for a text of %d bytes", len(text))
	}
	return types.Bool(p.MatchString(text))
}

// patternError is what is wrong with a pattern that is written in a rule.
type patternError struct {
	at  int64 // which part of the rule it is
	err error
}

func (e *patternError) Error() string { return e.err.Error() }
func (e *patternError) Unwrap() error { return e.err }

// patterns are those that are written in one program, by their texts. They are put
// together while it is made, and do not change after that.
type patterns map[string]pattern

// optimizations have the patterns that are written in a rule compiled once. Each form of
// the function is named: CEL has an optimization of its own, for those that are not.
func (p patterns) optimizations() []*interpreter.RegexOptimization {
	var list []*interpreter.RegexOptimization
	for _, overload := range []string{overloads.Matches, overloads.MatchesString} {
		list = append(list, &interpreter.RegexOptimization{
			Function: overloads.Matches, OverloadID: overload, RegexIndex: 1, Factory: p.written,
		})
	}
	return list
}

// written is a call with a pattern that is written in the rule.
func (p patterns) written(call interpreter.InterpretableCall, text string) (interpreter.InterpretableCall, error) {
	compiled, err := parsePattern(text)
	if err == nil && compiled.steps > mostSteps {
		err = fmt.Errorf("the pattern has a program of %d steps: at most %d can be taken", compiled.steps, mostSteps)
	}
	if err != nil {
		return nil, &patternError{call.Args()[1].ID(), err}
	}
	p[text] = compiled
	return matching(call, func(text, _ string) ref.Val { return compiled.match(text) }), nil
}

// told is a call with a pattern that comes from elsewhere.
func told(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	call, ok := i.(interpreter.InterpretableCall)
	if !ok || call.Function() != overloads.Matches || len(call.Args()) != 2 {
		return i, nil
	}
	return matching(call, func(text, pattern string) ref.Val {
		if len(pattern) > longestPattern {
			return types.NewErr("the pattern is longer than %d bytes", longestPattern)
		}
		compiled, err := parsePattern(pattern)
		if err != nil {
			return types.WrapErr(err)
		}
		return compiled.match(text)
	}), nil
}

// matching is the call done in another way.
func matching(call interpreter.InterpretableCall, do func(text, pattern string) ref.Val) interpreter.InterpretableCall {
	return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), call.Args(), func(values ...ref.Val) ref.Val {
		text, pattern, ok := operands(values)
		if !ok {
			return types.NoSuchOverloadErr()
		}
		return do(text, pattern)
	})
}

func operands(values []ref.Val) (text, pattern string, ok bool) {
	if len(values) != 2 {
		return "", "", false
	}
	a, ok1 := values[0].(types.String)
	b, ok2 := values[1].(types.String)
	return string(a), string(b), ok1 && ok2
}

// CallCost implements interpreter.ActualCostEstimator: CEL knows all but patterns.
func (p patterns) CallCost(function, _ string, args []ref.Val, _ ref.Val) *uint64 {
	if function != overloads.Matches {
		return nil
	}
	text, pattern, ok := operands(args)
	if !ok {
		return nil
	}
	cost := uint64(1)
	if compiled, written := p[pattern]; written {
		cost = min(compiled.cost(len(text)), mostMatch)
	} else if len(pattern) <= longestPattern {
		// Once for the match, and once here.
		if compiled, err := parsePattern(pattern); err == nil {
			cost = min(compiled.cost(len(text)), mostMatch) + 2*uint64(compiled.steps)
		}
	}
	return &cost
}
