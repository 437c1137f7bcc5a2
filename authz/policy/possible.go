package policy

import (
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"

	"github.com/weir-registry/weir/authz"
)

// Possible reports whether the rules might let somebody pull something: from an upstream
// whose repositories begin with path, or from anywhere where path is "". Where the
// answer depends on what is not known, such as the repository, it is yes. What a webhook
// would say is not known.
func (p *Policy) Possible(who authz.Identity, upstream, path string) bool {
	vars := map[string]any{
		"identity": who.Plain(),
		"request":  authz.Access{Action: authz.Pull, Upstream: upstream}.Plain(),
	}
	var unknown []*cel.AttributePatternType
	for _, field := range []string{"operation", "repository", "tag", "digest", "from", "artifact_type", "media_type", "size", "time"} {
		unknown = append(unknown, cel.AttributePattern("request").QualString(field))
	}
	if path == "" {
		unknown = append(unknown, cel.AttributePattern("request").QualString("upstream"))
	}
	if !who.Client.IP.IsValid() {
		unknown = append(unknown, cel.AttributePattern("identity").QualString("client_ip"))
	}
	known, err := cel.PartialVars(vars, unknown...)
	if err != nil {
		return true
	}
	if !p.global.rules.possible(known, who) {
		return false
	}
	return slices.ContainsFunc(p.scopesOf(path), func(s *scope) bool {
		return s == p.global || s.rules == nil || s.rules.possible(known, who)
	})
}

// scopesOf gives those that hold for some repository whose name begins with path.
func (p *Policy) scopesOf(path string) []*scope {
	if path == "" {
		return append(slices.Clone(p.repositories), p.global)
	}
	var list []*scope
	for _, below := range []string{"/weir", "/weir/weir", "/weir/weir/weir"} { // as nobody calls one: what holds for the rest
		rest := p.scope(path + below)
		list = append(list, rest)
		for _, s := range p.repositories {
			if s == rest {
				break // those after it hold where no earlier one does
			}
			begin := s.pattern[:literal(s.pattern)]
			if strings.HasPrefix(begin, path+"/") || strings.HasPrefix(path+"/", begin) {
				list = append(list, s)
			}
		}
	}
	return list
}

// possible reports whether rules might allow a pull of which not all is known.
func (n *named) possible(known any, who authz.Identity) bool {
	p := n.partial()
	for _, r := range p.deny {
		if is, sure := partly(r, known); sure && is {
			return false
		}
	}
	for _, r := range p.allow {
		if is, sure := partly(r, known); is || !sure {
			return true
		}
	}
	return n.standard(who, authz.Access{Action: authz.Pull})
}

// partial are rules that can be asked about a request of which not all is known. One
// that cannot be made is nil.
type partial struct{ allow, deny []cel.Program }

func (r Rules) partial() partial {
	var p partial
	for _, rule := range r.Allow {
		p.allow = append(p.allow, rule.partial())
	}
	for _, rule := range r.Deny {
		p.deny = append(p.deny, rule.partial())
	}
	return p
}

func (r Rule) partial() cel.Program {
	env, err := newEnvironment()
	if err != nil {
		return nil
	}
	checked, issues := env.Compile(r.source)
	if issues.Err() != nil {
		return nil
	}
	program, err := env.Program(checked, cel.CostLimit(mostCost), cel.EvalOptions(cel.OptPartialEval))
	if err != nil {
		return nil
	}
	return program
}

// partly asks such a rule. sure says that the answer does not depend on what is not
// known. A rule that fails is not sure.
func partly(r cel.Program, known any) (is, sure bool) {
	if r == nil {
		return false, false
	}
	value, _, err := r.Eval(known)
	if err != nil || types.IsUnknown(value) {
		return false, false
	}
	is, sure = value.Value().(bool)
	return is, sure
}
