package token_test

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/authz"
)

// A refresh token lives as long as its owner and their password, and grants what policy
// grants them now.
func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		first, _, err := r.ask(post("client_id=x&grant_type=password&username=ann&password=secret&access_type=offline"))
		if err != nil || first.RefreshToken == "" {
			t.Fatal(first, err)
		}
		refresh := func() (reply, error) {
			a, _, err := r.ask(post("client_id=x&grant_type=refresh_token&scope=repository:team/app:pull&refresh_token=" + first.RefreshToken))
			return a, err
		}
		want := func(when, scope string) {
			t.Helper()
			a, err := refresh()
			if err != nil || a.Scope != scope || a.RefreshToken != first.RefreshToken {
				t.Fatalf("%s: %+v, %v", when, a, err)
			}
			if who, err := r.issuer.Authenticate(bearer(a.Token)); err != nil || who.ID != "basic:ann" || who.Username != "ann" {
				t.Errorf("%s: %+v, %v", when, who, err)
			}
		}
		refused := func(when string) {
			t.Helper()
			if a, err := refresh(); !errors.Is(err, authz.ErrRejected) {
				t.Errorf("%s: %+v, %v", when, a, err)
			}
		}
		want("at once", "repository:team/app:pull")
		// That it is known as a refresh token does not make it known as another one.
		if who, err := r.issuer.Authenticate(bearer(first.RefreshToken)); !errors.Is(err, authz.ErrNone) {
			t.Errorf("a refresh token as bearer: %+v, %v", who, err)
		}
		if _, err := r.issuer.Authenticate(bearer(first.Token)); err != nil {
			t.Error(err)
		}
		if a, _, err := r.ask(post("client_id=x&grant_type=refresh_token&refresh_token=" + first.Token)); !errors.Is(err, authz.ErrRejected) {
			t.Errorf("a bearer token to refresh: %+v, %v", a, err)
		}
		time.Sleep(89 * 24 * time.Hour)
		want("in time", "repository:team/app:pull")
		r.rules.may = func(authz.Identity, authz.Access) bool { return false }
		want("with another policy", "")
		r.people["ann"] = "changed"
		refused("with another password")
		delete(r.people, "ann")
		refused("without its owner")
		r.people["ann"] = "secret"
		want("as before", "")
		r.Stamper = nil
		refused("when nobody vouches")
		r.Stamper = r.people
		time.Sleep(24 * time.Hour)
		refused("when it has lapsed")
	})
}

// A password that is replaced while the scope is decided on buys no refresh token, by
// whichever way it came.
func TestReplacedMeanwhile(t *testing.T) {
	for name, request := range map[string]func() *http.Request{
		"GET": func() *http.Request { return get("offline_token=true&scope=repository:team/app:pull", "ann", "secret") },
		"POST": func() *http.Request {
			return post("client_id=x&grant_type=password&username=ann&password=secret&access_type=offline&scope=repository:team/app:pull")
		},
	} {
		t.Run(name, func(t *testing.T) {
			for become, want := range map[string]struct {
				err     error
				refresh bool
			}{"secret": {nil, true}, "changed": {authz.ErrRejected, false}, "": {nil, false}} {
				r := newRig(t)
				r.rules.may = func(authz.Identity, authz.Access) bool {
					if r.people["ann"] = become; become == "" {
						delete(r.people, "ann")
					}
					return true
				}
				a, _, err := r.ask(request())
				if !errors.Is(err, want.err) || (a.RefreshToken != "") != want.refresh {
					t.Errorf("%q: %+v, %v; want %v", become, a, err, want)
				}
			}
		})
	}
}

// Whom nobody can vouch for later is given none, and no error.
func TestNoRefresh(t *testing.T) {
	r := newRig(t)
	if a, _, err := r.ask(get("offline_token=true", "", "")); err != nil || a.RefreshToken != "" {
		t.Errorf("nobody: %+v, %v", a, err)
	}
	r.Who = identified(somebody())
	if a, _, err := r.ask(get("offline_token=true", "", "")); err != nil || a.RefreshToken != "" {
		t.Errorf("of a provider: %+v, %v", a, err)
	}
	r.Stamper, r.Who = nil, r.people
	if a, _, err := r.ask(get("offline_token=true", "ann", "secret")); err != nil || a.RefreshToken != "" {
		t.Errorf("without passwords: %+v, %v", a, err)
	}
}
