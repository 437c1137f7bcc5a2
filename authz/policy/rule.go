package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/cel-go/cel"

	"github.com/weir-registry/weir/origin/rule"
)

const (
	// mostInAll bounds what a decision may cost.
	mostInAll = 10 * rule.MostCost
	// longestLoop bounds the time that a long loop in a rule may take, for a machine on
	// which rule.MostCost is more: a loop of under rule.InterruptEvery steps never looks at the
	// clock, so that a moment in which the machine does nothing denies nobody anything.
	longestLoop = 50 * time.Millisecond
)

// Rule is one expression, checked. The zero Rule fails whenever it is asked. It may be
// used by many at a time.
type Rule struct {
	source string
	// program is all that stays of what was compiled: each collection of garbage looks at
	// what stays.
	program cel.Program
	counted bool // it is counted what it costs
	loops   bool
	reads   reads
}

// ParseRule compiles an expression and checks it: that it names what there is, and may
// be true or false. Errors: *rule.Error.
func ParseRule(source string) (Rule, error) {
	env, err := environment()
	if err != nil {
		return Rule{}, &rule.Error{Message: err.Error()}
	}
	checked, err := rule.Language{Env: env, Empty: "matches nothing", Knows: "identity and request", Has: known}.Check(source)
	if err != nil {
		return Rule{}, err
	}
	found := examine(checked)
	if found.null != "" {
		return Rule{}, &rule.Error{Message: fmt.Sprintf("%s is never null: ask has(%[1]s)", found.null)}
	}
	counted := found.loops || !cheap(env, checked)
	program, err := env.Program(checked, options(counted)...)
	if err != nil {
		return Rule{}, unmade(checked, err)
	}
	return Rule{source: source, program: program, counted: counted, loops: found.loops, reads: found.reads}, nil
}

// options are what programs are made with, which can also be asked while not all is known.
// counted says that it is counted what they cost.
func options(counted bool) []cel.ProgramOption {
	written := patterns{}
	list := []cel.ProgramOption{
		cel.EvalOptions(cel.OptOptimize, cel.OptPartialEval),
		cel.OptimizeRegex(written.optimizations()...),
		cel.CustomDecoratorV2(told),
	}
	if counted {
		list = append(list, cel.CostTracking(written), cel.CostLimit(rule.MostCost), cel.InterruptCheckFrequency(rule.InterruptEvery))
	}
	return list
}

// unmade says why no program can be made of a rule that is checked: a pattern in it is
// none, if anything.
func unmade(checked *cel.Ast, err error) error {
	message := rule.Shown(err.Error())
	if bad, is := errors.AsType[*patternError](err); is {
		if at := checked.NativeRep().SourceInfo().GetStartLocation(bad.at); at.Line() > 0 {
			return &rule.Error{Line: at.Line(), Column: at.Column() + 1, Message: message}
		}
	}
	return &rule.Error{Message: message}
}

// known lists what fields there are.
func known() string {
	var lists []string
	all := objects()
	for _, name := range []string{identityType, certificateType, oidcType, requestType} {
		var names []string
		for _, f := range all[name] {
			names = append(names, f.name)
		}
		lists = append(lists, strings.TrimPrefix(name, "@")+" has "+strings.Join(names, ", "))
	}
	return strings.Join(lists, "; ")
}

// String gives the rule as it was written.
func (r Rule) String() string { return r.source }

// MarshalText implements [encoding.TextMarshaler].
func (r Rule) MarshalText() ([]byte, error) { return []byte(r.source), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]. Errors: as of ParseRule.
func (r *Rule) UnmarshalText(text []byte) error {
	parsed, err := ParseRule(string(text))
	if err == nil {
		*r = parsed
	}
	return err
}

var (
	errNoRule = errors.New("there is no rule")
	errSlow   = fmt.Errorf("it took more than %s", longestLoop)
	errInAll  = errors.New("the rules before it cost too much together")
)

// asking is one question, put to many rules.
type asking struct {
	vars cel.Activation
	// spent is what it has cost so far, as far as that is counted.
	spent uint64
}

// spend takes down what a rule cost, if that was counted.
func (a *asking) spend(details *cel.EvalDetails) {
	if cost := details.ActualCost(); cost != nil {
		a.spent += *cost
	}
}

// match reports whether the rule is true. Errors: what failed in it, ctx's.
func (r Rule) match(ctx context.Context, a *asking) (bool, error) {
	if r.program == nil {
		return false, errNoRule
	}
	if r.counted && a.spent >= mostInAll {
		return false, errInAll
	}
	if r.loops {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, longestLoop, errSlow)
		defer cancel()
	}
	value, details, err := r.program.ContextEval(ctx, a.vars)
	a.spend(details)
	if err != nil {
		return false, err
	}
	return rule.Truth(value)
}

// reads says which fields of a request a rule looks at.
type reads uint16

// The fields of a request that not every decision looks at.
const (
	readsOperation reads = 1 << iota
	readsUpstream
	readsTag
	readsDigest
	readsFrom
	readsArtifactType
	readsMediaType
	readsSize
	readsTime

	// readsAll is what a rule may look at that takes the request as a whole.
	readsAll = 1<<iota - 1
	// readsContent is what may differ within one repository.
	readsContent = readsAll &^ (readsUpstream | readsTime)
)

// readsOf is what it means to look at a field. A field that is not named here is
// always a part of the question.
func readsOf(field string) reads {
	i := slices.Index([]string{"operation", "upstream", "tag", "digest", "from", "artifact_type", "media_type", "size", "time"}, field)
	if i < 0 {
		return 0
	}
	return 1 << i
}
