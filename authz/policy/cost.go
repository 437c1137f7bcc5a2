package policy

import (
	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/overloads"
	"github.com/google/cel-go/common/types"

	"github.com/weir-registry/weir/origin/rule"
)

// littleCost is what nobody counts: what counting takes is more than that, and all rules
// that there can be do not come to mostInAll.
const littleCost = rule.MostCost / 100

// cheap reports whether a rule can be seen to cost little whatever it is asked about:
// then nobody counts while it runs, which takes longer than most rules do.
func cheap(env *cel.Env, checked *cel.Ast) bool {
	estimate, err := env.EstimateCost(checked, sizes{})
	return err == nil && estimate.Max <= littleCost
}

// sizes are what is certain of the sizes of things.
type sizes struct{}

const (
	// longest is more characters than the header of a request holds, and with it all that
	// somebody can say of themselves or ask for; longestName more than what has a grammar.
	longest     = 1 << 17
	longestName = 1 << 8
	// largest is more than a certificate can list, and largestToken than a token can.
	largest      = 1 << 17
	largestToken = 1 << 13
)

// EstimateSize implements checker.CostEstimator. What comes from a claim has a size,
// too, but no type.
func (sizes) EstimateSize(element checker.AstNode) *checker.SizeEstimate {
	path := element.Path()
	switch element.Type().Kind() {
	case types.StringKind, types.BytesKind:
		if len(path) == 2 && path[0] == "request" && path[1] != "media_type" {
			return &checker.SizeEstimate{Max: longestName}
		}
		return &checker.SizeEstimate{Max: longest}
	case types.ListKind, types.MapKind:
		if len(path) == 2 && path[0] == "identity" && path[1] == "groups" {
			return &checker.SizeEstimate{Max: largestToken}
		}
		return &checker.SizeEstimate{Max: largest}
	}
	return nil
}

// EstimateCallCost implements checker.CostEstimator: CEL knows all but patterns.
func (s sizes) EstimateCallCost(function, _ string, target *checker.AstNode, args []checker.AstNode) *checker.CallEstimate {
	if function != overloads.Matches {
		return nil
	}
	if target != nil {
		args = append([]checker.AstNode{*target}, args...)
	}
	most := uint64(mostMatch)
	if len(args) != 2 || args[1].Expr().Kind() != ast.LiteralKind {
		return &checker.CallEstimate{CostEstimate: checker.CostEstimate{Max: rule.MostCost}} // it is compiled, too
	}
	text, _ := args[1].Expr().AsLiteral().(types.String)
	size := args[0].ComputedSize()
	if size == nil {
		size = s.EstimateSize(args[0])
	}
	if p, err := parsePattern(string(text)); err == nil && size != nil && size.Max <= longest {
		most = min(most, p.cost(int(size.Max)*4)) // bytes of a character
	}
	return &checker.CallEstimate{CostEstimate: checker.CostEstimate{Max: most}}
}
