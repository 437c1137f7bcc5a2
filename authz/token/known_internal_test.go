package token

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/weir-registry/weir/authz"
)

// TestKnownTokens: a token that is known is known to its last byte; a refresh token is none;
// and no more are known than remembered.
func TestKnownTokens(t *testing.T) {
	key, err := ParseKey(strings.Repeat("k", leastKey))
	if err != nil {
		t.Fatal(err)
	}
	i := New("weir", LeastTTL, func(context.Context) (*Key, error) { return key, nil })
	ann := authz.Identity{ID: "basic:ann", Username: "ann"}
	issue := func() string {
		t.Helper()
		issued, err := i.Issue(t.Context(), ann, nil)
		if err != nil {
			t.Fatal(err)
		}
		return issued.Token
	}
	shown := func(text string) error {
		_, err := i.Authenticate(&http.Request{Header: http.Header{"Authorization": {"Bearer " + text}}})
		return err
	}
	token := issue()
	for range 2 {
		if err := shown(token); err != nil || i.known.Len() != 1 {
			t.Fatalf("%v, %d are known", err, i.known.Len())
		}
	}
	for n := range token {
		other := []byte(token)
		other[n] ^= 1
		if err := shown(string(other)); !errors.Is(err, authz.ErrNone) {
			t.Fatalf("with another byte at %d: %v", n, err)
		}
	}
	for _, other := range []string{token[:len(token)-1], token + "A", token + "=", " " + token, token + " "} {
		if err := shown(other); !errors.Is(err, authz.ErrNone) {
			t.Errorf("%q: %v", other, err)
		}
	}
	refresh, err := i.issueRefresh(t.Context(), ann, "stamp")
	if err != nil {
		t.Fatal(err)
	}
	if err := shown(refresh.Token); !errors.Is(err, authz.ErrNone) || i.known.Len() != 1 {
		t.Errorf("a refresh token: %v, %d are known", err, i.known.Len())
	}
	for range remembered + 10 {
		if err := shown(issue()); err != nil {
			t.Fatal(err)
		}
	}
	if i.known.Len() != remembered {
		t.Errorf("%d are known", i.known.Len())
	}
}
