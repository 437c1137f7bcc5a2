package oidc_test

import (
	"fmt"
	"net/http"
	"time"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/oidc"
)

// Jobs of GitHub Actions, and nobody else, by their tokens.
func Example() {
	tokens, err := oidc.New([]oidc.Provider{{
		Name:           "github",
		Issuer:         "https://token.actions.githubusercontent.com",
		Audience:       "https://weir.corp",
		RequiredClaims: []oidc.Claim{{Name: "repository_owner", Value: "acme"}},
		Leeway:         time.Minute,
		Transport:      http.DefaultTransport, // weir's is guarded: see origin/remote/egress
	}}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer tokens.Close()
	r, err := http.NewRequest(http.MethodGet, "https://weir.corp/v2/", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	r.SetBasicAuth("ci", "not-a-token")
	_, err = tokens.Authenticate(r)
	fmt.Println(err == authz.ErrNone)
	_, err = authz.Chain{tokens}.Authenticate(r)
	fmt.Println(err)
	// Output:
	// true
	// authz: credentials are not accepted
}
