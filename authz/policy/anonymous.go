package policy

import (
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"

	"github.com/weir-registry/weir/authz"
)

// Closed reports whether it is certain, without asking, that nobody who shows no
// credentials may pull a repository whose name begins with prefix ("docker.io/") and
// which is mirrored from the upstream: whatever else a request says, rules deny it.
// Webhooks are not counted on.
func Closed(all Rules, some []Repository, prefix, upstream string) bool {
	if closed(all, all.Default == Deny || all.Default == Unset && len(all.Allow) > 0, upstream) {
		return true
	}
	for _, r := range bySpecificity(some) {
		fixed := r.Pattern[:literal(r.Pattern)]
		switch {
		case !strings.HasPrefix(fixed, prefix) && !strings.HasPrefix(prefix, fixed):
			// It matches none of them.
		case !closed(r.Rules, r.Rules.Default == Deny, upstream):
			return false
		case r.Pattern == prefix+"**", r.Pattern == "**":
			return true // it matches all that are left
		}
	}
	return false
}

// closed reports whether rules deny nobody's pulls for certain. denies is what they do
// by default.
func closed(r Rules, denies bool, upstream string) bool {
	for _, rule := range r.Deny {
		if rule.foresee(upstream) == surely {
			return true
		}
	}
	for _, rule := range r.Allow {
		if f := rule.foresee(upstream); f == surely || f == perhaps {
			return false
		}
	}
	return denies
}

// foreseen is what can be said of a rule before it is asked.
type foreseen int

const (
	perhaps foreseen = iota
	surely
	never
	fails // whatever comes
)

// foresee asks the rule about nobody's pull from an upstream, of which nothing more is
// known.
func (r Rule) foresee(upstream string) foreseen {
	if r.program == nil {
		return fails
	}
	program, err := r.env.Program(r.checked,
		cel.CostLimit(mostCost), cel.EvalOptions(cel.OptPartialEval))
	if err != nil {
		return perhaps
	}
	unknown := []*cel.AttributePatternType{cel.AttributePattern("identity").QualString("client_ip")}
	for _, f := range objects()[requestType] {
		if f.name != "action" && f.name != "upstream" {
			unknown = append(unknown, cel.AttributePattern("request").QualString(f.name))
		}
	}
	vars, err := cel.PartialVars(map[string]any{
		"identity": authz.Identity{}.Plain(),
		"request":  authz.Access{Action: authz.Pull, Upstream: upstream}.Plain(),
	}, unknown...)
	if err != nil {
		return perhaps
	}
	value, _, err := program.Eval(vars)
	switch {
	case types.IsUnknown(value):
		return perhaps
	case err != nil:
		return fails
	case value == types.True:
		return surely
	case value == types.False:
		return never
	}
	return fails // it is no bool
}
