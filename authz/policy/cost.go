package policy

import (
	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/types"
)

// cheap reports whether a rule can be seen to cost less than mostCost whatever it is
// asked about: then nobody counts while it runs, which takes longer than most rules do.
func cheap(env *cel.Env, checked *cel.Ast) bool {
	estimate, err := env.EstimateCost(checked, sizes{})
	return err == nil && estimate.Max <= mostCost
}

// sizes are what is certain of the sizes of things.
type sizes struct{}

const (
	// longest is more characters than the header of a request holds, and with it all that
	// somebody can say of themselves or ask for.
	longest = 1 << 21
	// largest is more than a token or a certificate can list.
	largest = 1 << 17
)

// EstimateSize implements checker.CostEstimator. What comes from a claim has a size,
// too, but no type.
func (sizes) EstimateSize(element checker.AstNode) *checker.SizeEstimate {
	switch element.Type().Kind() {
	case types.StringKind, types.BytesKind:
		return &checker.SizeEstimate{Max: longest}
	case types.ListKind, types.MapKind:
		return &checker.SizeEstimate{Max: largest}
	}
	return nil
}

// EstimateCallCost implements checker.CostEstimator: CEL knows.
func (sizes) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}
