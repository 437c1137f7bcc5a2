package lifetime

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"

	"github.com/weir-registry/weir/origin/rule"
)

// Rule says of images whether they are kept: an expression, checked. It may be used by
// many at a time. The zero Rule fails whenever it is asked.
type Rule struct {
	source  string
	program cel.Program
}

// ParseRule compiles an expression, and checks that it names what there is and is true or
// false. Errors: *rule.Error.
func ParseRule(source string) (Rule, error) {
	env, err := newEnvironment()
	if err != nil {
		return Rule{}, &rule.Error{Message: err.Error()}
	}
	checked, err := rule.Language{
		Env: env, Empty: "keeps nothing",
		Knows: "image, now(), days(n), hours(n), duration('6s'), top_pushed(n), top_pulled(n) and semver(tag)",
		Has:   func() string { return "image has " + strings.Join(fieldNames(), ", ") },
	}.Check(source)
	if err != nil {
		return Rule{}, err
	}
	program, err := env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(rule.MostCost), cel.InterruptCheckFrequency(rule.InterruptEvery))
	if err != nil {
		return Rule{}, &rule.Error{Message: rule.Shown(err.Error())}
	}
	return Rule{source, program}, nil
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

// keeps reports whether the rule is true of an image, at a time.
func (r Rule) keeps(ctx context.Context, image map[string]any, now time.Time) (bool, error) {
	if r.program == nil {
		return false, fmt.Errorf("there is no rule")
	}
	value, _, err := r.program.ContextEval(ctx, map[string]any{"image": image, timeName: now})
	if err != nil {
		return false, err
	}
	return rule.Truth(value)
}

// Names that no rule can write.
const (
	imageType  = "@image"
	timeName   = "@now"
	pushedRank = "@pushed" // how many tags were pushed after it
	pulledRank = "@pulled"
)

// newEnvironment is what rules are compiled in.
func newEnvironment() (*cel.Env, error) {
	registry, err := types.NewRegistry()
	if err != nil {
		return nil, err
	}
	return cel.NewEnv(
		cel.CustomTypeProvider(imageProvider{registry}),
		cel.Variable("image", cel.ObjectType(imageType)),
		cel.Variable(timeName, cel.TimestampType),
		cel.Macros(
			cel.GlobalMacro("now", 0, func(f cel.MacroExprFactory, _ ast.Expr, _ []ast.Expr) (ast.Expr, *cel.Error) {
				return f.NewIdent(timeName), nil
			}),
			cel.GlobalMacro("top_pushed", 1, among(pushedRank)),
			cel.GlobalMacro("top_pulled", 1, among(pulledRank)),
		),
		span("days", day),
		span("hours", time.Hour),
		cel.Function("semver", cel.Overload("semver_string", []*cel.Type{cel.StringType}, cel.BoolType,
			cel.UnaryBinding(func(tag ref.Val) ref.Val { return types.Bool(isVersion(string(tag.(types.String)))) }))),
	)
}

// among makes top_pushed(n) of image.@pushed < n.
func among(rank string) cel.MacroFactory {
	return func(f cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
		return f.NewCall(operators.Less, f.NewSelect(f.NewIdent("image"), rank), args[0]), nil
	}
}

const day = 24 * time.Hour

// span is a function that makes a duration of a number of units.
func span(name string, unit time.Duration) cel.EnvOption {
	return cel.Function(name, cel.Overload(name+"_int", []*cel.Type{cel.IntType}, cel.DurationType,
		cel.UnaryBinding(func(n ref.Val) ref.Val {
			count := time.Duration(n.(types.Int))
			if d := count * unit; d/unit == count {
				return types.Duration{Duration: d}
			}
			return types.NewErr("%s(%d) is too long", name, count)
		})))
}

// version is a semantic version, of whose parts none that is a number begins with a 0.
var version = regexp.MustCompile(`^v?(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)` +
	`(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?$`)

// isVersion reports whether a tag is a semantic version, with or without a v before it.
func isVersion(tag string) bool { return version.MatchString(tag) }
