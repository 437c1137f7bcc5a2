package policy

import (
	"errors"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/interpreter"

	"github.com/weir-registry/weir/authz"
)

// Possible reports whether the rules might let somebody pull something: from an upstream
// whose repositories begin with prefix ("docker.io/"), or from anywhere where prefix is
// "". No is certain, whatever else a request says; where the answer depends on what is
// not known, such as the repository, it is yes. Webhooks are not asked, and not counted
// on. An address that who does not have is not known, either.
func (p *Policy) Possible(who authz.Identity, upstream, prefix string) bool {
	known, err := partly(who, upstream, prefix == "")
	if err != nil {
		return true
	}
	a := &asking{vars: known}
	if !p.global.rules.possible(a, who) {
		return false
	}
	return slices.ContainsFunc(p.scopesBelow(prefix), func(s *scope) bool {
		return s == p.global || s.rules == nil || s.rules.possible(a, who)
	})
}

// scopesBelow gives those that may hold for a repository whose name begins with prefix.
func (p *Policy) scopesBelow(prefix string) []*scope {
	var list []*scope
	for _, s := range p.repositories {
		fixed := s.pattern[:literal(s.pattern)]
		if !strings.HasPrefix(fixed, prefix) && !strings.HasPrefix(prefix, fixed) {
			continue // it matches none of them
		}
		list = append(list, s)
		if s.pattern == prefix+"**" || s.pattern == "**" {
			return list // it matches all that are left
		}
	}
	return append(list, p.global)
}

// partly is what rules see of a pull of which no more is known than who asks and, unless
// it is from anywhere, the upstream.
func partly(who authz.Identity, upstream string, anywhere bool) (known cel.Activation, err error) {
	var unknown []*cel.AttributePatternType
	for _, f := range objects()[requestType] {
		if f.name != "action" && (f.name != "upstream" || anywhere) {
			unknown = append(unknown, cel.AttributePattern("request").QualString(f.name))
		}
	}
	if !who.Client.IP.IsValid() {
		unknown = append(unknown, cel.AttributePattern("identity").QualString("client_ip"))
	}
	return cel.PartialVars(map[string]any{
		"identity": who.Plain(),
		"request":  authz.Access{Action: authz.Pull, Upstream: upstream}.Plain(),
	}, unknown...)
}

// possible reports whether rules might allow a pull of which not all is known.
func (n *named) possible(a *asking, who authz.Identity) bool {
	for _, r := range n.Deny {
		if r.foresee(a) == surely { // one that fails denies too, but who knows
			return false
		}
	}
	for _, r := range n.Allow {
		if r.foresee(a) != never {
			return true
		}
	}
	return n.standard(who, authz.Access{Action: authz.Pull})
}

// foreseen is what can be said of a rule before all is known.
type foreseen int

const (
	perhaps foreseen = iota
	surely           // it is true
	never            // it is false, or fails
)

// foresee asks a rule about a request of which not all is known.
func (r Rule) foresee(a *asking) foreseen {
	if r.program == nil || a.spent >= mostInAll {
		return perhaps
	}
	value, details, err := r.program.Eval(a.vars)
	a.spend(details)
	switch {
	case types.IsUnknown(value):
		return perhaps
	case err == nil && value == types.True:
		return surely
	}
	if _, dear := errors.AsType[interpreter.EvalCancelledError](err); dear {
		return perhaps // it may cost less when all is known
	}
	return never
}
