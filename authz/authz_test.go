package authz_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/weir-registry/weir/authz"
)

// answer is an Authenticator that always says the same.
type answer struct {
	who authz.Identity
	err error
}

func (a answer) Authenticate(*http.Request) (authz.Identity, error) { return a.who, a.err }

func TestChain(t *testing.T) {
	ann := answer{who: authz.Identity{ID: "basic:ann"}}
	bob := answer{who: authz.Identity{ID: "oidc:x:bob"}}
	none, away := answer{err: authz.ErrNone}, answer{err: authz.ErrUnavailable}
	cert := answer{who: authz.Identity{ID: "mtls:CN=ca:CN=ann", Method: authz.MethodMTLS}}
	scoped := answer{who: authz.Identity{ID: "basic:bob", Method: authz.MethodToken, Scope: authz.Scope{}}}
	broken := errors.New("broken")
	for _, test := range []struct {
		name        string
		chain       authz.Chain
		credentials bool
		id          string
		err         error
	}{
		{"nobody asks for any", nil, false, "", nil},
		{"none are shown", authz.Chain{none, none}, false, "", nil},
		{"none accepts", authz.Chain{none, none}, true, "", authz.ErrRejected},
		{"no method at all", nil, true, "", authz.ErrRejected},
		{"the first that accepts", authz.Chain{none, ann, bob}, true, "basic:ann", nil},
		{"one is away, the next knows", authz.Chain{away, bob}, true, "oidc:x:bob", nil},
		{"one is away, the next does not know", authz.Chain{away, none}, true, "", authz.ErrUnavailable},
		{"a certificate alone", authz.Chain{cert, none}, false, cert.who.ID, nil},
		{"a certificate, and a login that counts", authz.Chain{cert, none, bob}, true, cert.who.ID, nil},
		{"a certificate, and a login that nobody accepts", authz.Chain{cert, none, none}, true, "", authz.ErrRejected},
		{"a certificate, and no method for a login", authz.Chain{cert}, true, "", authz.ErrRejected},
		{"a certificate, and a login that cannot be checked", authz.Chain{cert, away, none}, true, "", authz.ErrUnavailable},
		{"a certificate, one is away and the next knows", authz.Chain{cert, away, bob}, true, cert.who.ID, nil},
		{"a certificate, and a failure", authz.Chain{cert, answer{err: broken}, bob}, true, "", broken},
		{"a certificate that does not count, and a login", authz.Chain{answer{err: authz.ErrRejected}, bob}, true, "", authz.ErrRejected},
		{"a token beside a certificate", authz.Chain{cert, scoped}, true, cert.who.ID, nil},
		{"a failure is no answer", authz.Chain{answer{err: broken}, bob}, true, "", broken},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/v2/", nil)
			if test.credentials {
				r.Header.Set("Authorization", "Basic Og==")
			}
			who, err := test.chain.Authenticate(r)
			if who.ID != test.id || !errors.Is(err, test.err) {
				t.Errorf("%q, %v, want %q, %v", who.ID, err, test.id, test.err)
			}
			if who.Authenticated() != (test.id != "") {
				t.Errorf("authenticated: %v", who.Authenticated())
			}
		})
	}
}

// A token bounds what it is shown with, whoever it was issued to; a certificate alone
// has no bound.
func TestScopeBesideCertificate(t *testing.T) {
	chain := authz.Chain{
		answer{who: authz.Identity{ID: "mtls:CN=ca:CN=ann", Method: authz.MethodMTLS}},
		answer{who: authz.Identity{ID: "basic:bob", Method: authz.MethodToken, Scope: authz.Scope{}}},
	}
	r := httptest.NewRequest("GET", "/v2/", nil)
	if who, err := chain.Authenticate(r); err != nil || who.Scope != nil {
		t.Errorf("%+v, %v", who, err)
	}
	r.Header.Set("Authorization", "Bearer x")
	if who, err := chain.Authenticate(r); err != nil || who.Method != authz.MethodMTLS || who.Scope == nil {
		t.Errorf("%+v, %v", who, err)
	}
}

// Two Authorization headers are none: a proxy before weir may have read the other one.
func TestTwoLogins(t *testing.T) {
	r := httptest.NewRequest("GET", "/v2/", nil)
	r.Header["Authorization"] = []string{"Basic Og==", "Basic YTpi"}
	who, err := authz.Chain{answer{who: authz.Identity{ID: "basic:ann"}}}.Authenticate(r)
	if who.Authenticated() || !errors.Is(err, authz.ErrRejected) {
		t.Errorf("%+v, %v", who, err)
	}
}

func TestScope(t *testing.T) {
	pull := authz.Scope{{Type: "repository", Name: "team/app", Actions: []string{"pull"}}}
	for _, test := range []struct {
		scope authz.Scope
		what  authz.Access
		want  bool
	}{
		{nil, authz.Access{Action: authz.Delete, Repository: "team/app"}, true},
		{authz.Scope{}, authz.Access{Action: authz.Pull, Repository: "team/app"}, false},
		{pull, authz.Access{Action: authz.Pull, Repository: "team/app"}, true},
		{pull, authz.Access{Action: authz.Pull, Repository: "team/app2"}, false},
		{pull, authz.Access{Action: authz.Push, Repository: "team/app"}, false},
		{pull, authz.Access{Action: authz.Delete, Repository: "team/app"}, false}, // a zot advisory: GHSA-qg67-7m6v-qg25
		{pull, authz.Access{Action: authz.List}, false},
		{authz.Needs(authz.Access{Action: authz.List}), authz.Access{Action: authz.List}, true},
		{authz.Needs(authz.Access{Action: authz.Push, Repository: "a"}), authz.Access{Action: authz.Pull, Repository: "a"}, true},
		{authz.Needs(authz.Access{Action: authz.Push, Repository: "a"}), authz.Access{Action: authz.Delete, Repository: "a"}, false},
	} {
		if got := test.scope.Allows(test.what); got != test.want {
			t.Errorf("%q allows %+v: %v", test.scope, test.what, got)
		}
	}
	if s := authz.Needs(authz.Access{Action: authz.Push, Repository: "team/app"}).String(); s != "repository:team/app:pull,push" {
		t.Error(s)
	}
}
