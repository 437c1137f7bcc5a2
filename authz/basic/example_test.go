package basic_test

import (
	"fmt"
	"net/http/httptest"

	"github.com/weir-registry/weir/authz/basic"
)

// Ann has a password, of which only the hash is known.
func Example() {
	users, err := basic.ParseHtpasswd("# people\nann:" + basic.NewHash("secret").Text() + "\n")
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := basic.New(basic.Options{Users: func() ([]basic.User, error) { return users, nil }})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, password := range []string{"secret", "guess"} {
		r := httptest.NewRequest("GET", "/v2/", nil)
		r.SetBasicAuth("ann", password)
		who, err := b.Authenticate(r)
		fmt.Println(who, err)
	}
	// Output:
	// basic:ann <nil>
	//  authz: no credentials that count here
}
