package policy_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/policy"
)

func Example() {
	ci, err := policy.ParseRule("identity.id == 'basic:ci' && request.action in ['pull', 'push']")
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := policy.New(policy.Options{
		Global: policy.Rules{Default: policy.Allow},
		Repositories: []policy.Repository{{
			Pattern: "team/**",
			Match:   func(name string) bool { return strings.HasPrefix(name, "team/") },
			Rules:   policy.Rules{Default: policy.Deny, Allow: []policy.Rule{ci}},
		}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	push := authz.Access{Action: authz.Push, Repository: "team/app"}
	fmt.Println(p.Authorize(context.Background(), authz.Identity{ID: "basic:ci"}, push))
	fmt.Println(p.Authorize(context.Background(), authz.Identity{ID: "basic:eve"}, push))
	_, err = policy.ParseRule("identity.nmae == 'ci'")
	fmt.Println(strings.HasPrefix(err.Error(), "column 9: undefined field 'nmae'"))
	// Output:
	// <nil>
	// denied by repositories[team/**].policy.default
	// true
}
