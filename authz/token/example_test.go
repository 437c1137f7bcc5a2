package token_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"time"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/token"
)

// A token says who somebody is, and bounds what it is good for.
func Example() {
	key, err := token.ParseKey("at least 32 characters, and secret ones")
	if err != nil {
		fmt.Println(err)
		return
	}
	issuer := token.New("weir", 5*time.Minute, func(context.Context) (*token.Key, error) { return key, nil })
	issued, err := issuer.Issue(context.Background(), authz.Identity{ID: "basic:ann"}, token.ParseScope("repository:team/app:pull"))
	if err != nil {
		fmt.Println(err)
		return
	}
	r := httptest.NewRequest("GET", "/v2/team/app/manifests/1", nil)
	r.Header.Set("Authorization", "Bearer "+issued.Token)
	who, err := issuer.Authenticate(r)
	fmt.Println(who, who.Scope, err)
	fmt.Println(who.Scope.Allows(authz.Access{Action: authz.Delete, Repository: "team/app"}))
	// Output:
	// basic:ann repository:team/app:pull <nil>
	// false
}
