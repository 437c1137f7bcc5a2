package policy

import (
	"context"
	"fmt"
	"strconv"

	"github.com/weir-registry/weir/authz"
)

// Default is what holds where no rule decides.
type Default string

// The defaults.
const (
	Unset Default = "" // what that means depends on what there is
	Allow Default = "allow"
	Deny  Default = "deny"
)

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Default) UnmarshalText(text []byte) error {
	switch got := Default(text); got {
	case Unset, Allow, Deny:
		*d = got
		return nil
	}
	return fmt.Errorf("%.40q is no default: write allow or deny", text)
}

// Rules are what an operator says of all repositories, or of some.
type Rules struct {
	Default Default
	Allow   []Rule
	Deny    []Rule
}

// empty reports whether they say nothing.
func (r Rules) empty() bool { return r.Default == Unset && len(r.Allow)+len(r.Deny) == 0 }

// reads is what all of them look at.
func (r Rules) reads() reads {
	var all reads
	for _, list := range [][]Rule{r.Allow, r.Deny} {
		for _, rule := range list {
			all |= rule.reads
		}
	}
	return all
}

// named are Rules whose rules have the names that operators know them by.
type named struct {
	Rules
	// standard decides where no rule does.
	standard func(who authz.Identity, what authz.Access) bool

	byDefault   string
	allow, deny []string
}

func name(r Rules, prefix string, standard func(authz.Identity, authz.Access) bool) *named {
	n := &named{Rules: r, standard: standard, byDefault: prefix + ".default"}
	for i := range r.Allow {
		n.allow = append(n.allow, prefix+".allow["+strconv.Itoa(i)+"]")
	}
	for i := range r.Deny {
		n.deny = append(n.deny, prefix+".deny["+strconv.Itoa(i)+"]")
	}
	return n
}

// verdict is what Rules say.
type verdict struct {
	allowed bool
	by      string
	// cause is why the deny rule that decided failed; nil: it did not.
	cause error
	// whole says that no rule failed: asked again, they say the same.
	whole bool
}

// decide asks them. failed is told of each rule that fails.
func (n *named) decide(
	ctx context.Context, who authz.Identity, what authz.Access, a *asking, failed func(rule string, err error),
) verdict {
	whole := true
	for i, rule := range n.Deny {
		matched, err := rule.match(ctx, a)
		if err != nil {
			failed(n.deny[i], err)
			return verdict{by: n.deny[i], cause: err}
		}
		if matched {
			return verdict{by: n.deny[i], whole: true}
		}
	}
	for i, rule := range n.Allow {
		matched, err := rule.match(ctx, a)
		if err != nil {
			failed(n.allow[i], err)
			whole = false
			continue
		}
		if matched {
			return verdict{allowed: true, by: n.allow[i], whole: whole}
		}
	}
	return verdict{allowed: n.standard(who, what), by: n.byDefault, whole: whole}
}

// always is a default that is the same for all.
func always(allowed bool) func(authz.Identity, authz.Access) bool {
	return func(authz.Identity, authz.Access) bool { return allowed }
}

// global is the default of the rules for all repositories. What has allow rules and
// says no default is closed to all else; what has none is as if there were no rules:
// everybody reads, and this machine alone writes, as long as no other can connect.
func global(r Rules, private bool) func(authz.Identity, authz.Access) bool {
	if r.Default != Unset || len(r.Allow) > 0 {
		return always(r.Default == Allow)
	}
	return func(who authz.Identity, what authz.Access) bool {
		switch what.Action {
		case authz.Pull, authz.List:
			return true
		case authz.Push, authz.Delete:
			return private && who.Client.Local
		default:
			return false
		}
	}
}
