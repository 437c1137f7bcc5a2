package ui_test

import (
	"context"
	"encoding/base64"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/ui"
)

func TestSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stamp := "1"
		r := newRig(t, func(o *ui.Options) {
			o.SignIn.Stamp = func(id string) (string, bool) { return stamp, id == "basic:ann" }
		})
		if w := r.signIn("ann", "wrong"); w.Code != http.StatusUnauthorized || len(r.cookies) > 0 || w.Header().Get("Www-Authenticate") != "" || strings.Contains(w.Body.String(), `value="wrong"`) {
			t.Errorf("wrong password: %d %v", w.Code, r.cookies)
		}
		if w := r.signIn("busy", "x"); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("busy: %d", w.Code)
		}
		if w := r.signIn("ann", password); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/ui/why" {
			t.Errorf("signed in: %d %v", w.Code, w.Header())
		}
		if c := r.cookies["weir_session"]; c == nil || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/ui/" || c.Secure || strings.Contains(c.Value, "ann") {
			t.Errorf("cookie %v", c)
		}
		if who := r.who(); who != "basic:ann" {
			t.Errorf("is %q", who)
		}
		kept := *r.cookies["weir_session"]
		forged := []string{"", "x", base64.RawURLEncoding.EncodeToString([]byte(`{"id":"basic:root"}`)), kept.Value[:len(kept.Value)-2], kept.Value + kept.Value}
		for i := range 20 { // any byte that is another one
			b, _ := base64.RawURLEncoding.DecodeString(kept.Value)
			b[i*len(b)/20] ^= 1
			forged = append(forged, base64.RawURLEncoding.EncodeToString(b))
		}
		for _, value := range forged {
			c := kept
			c.Value = value
			r.cookies = map[string]*http.Cookie{c.Name: &c}
			if who := r.who(); who != "" {
				t.Errorf("by a forged cookie %q", who)
			}
		}
		r.cookies = map[string]*http.Cookie{kept.Name: &kept}

		r.identity = authz.Identity{ID: "mtls:ca:bob", Method: authz.MethodMTLS}
		if who := r.who(); who != "mtls:ca:bob" {
			t.Errorf("other credentials: is %q", who)
		}
		r.identity = authz.Identity{}

		stamp = "2"
		if who := r.who(); who != "" {
			t.Errorf("with another password: is %q", who)
		}
		stamp = "1"
		time.Sleep(8*time.Hour - time.Second)
		if who := r.who(); who != "basic:ann" {
			t.Errorf("before the end: is %q", who)
		}
		time.Sleep(time.Second)
		if who := r.who(); who != "" {
			t.Errorf("at its end: is %q", who)
		}
		r.signIn("ann", password)
		if w := r.do(http.MethodPost, "/ui/logout", url.Values{}); w.Code != http.StatusSeeOther || len(r.cookies) > 0 {
			t.Errorf("signed out: %d %v", w.Code, r.cookies)
		}
	})
}

// replaced is a password that is another one as soon as it was checked.
type replaced struct {
	people
	checked int
}

func (p *replaced) Authenticate(r *http.Request) (authz.Identity, error) {
	if p.checked++; p.checked > 1 {
		return authz.Identity{}, authz.ErrNone
	}
	return p.people.Authenticate(r)
}

// A password that is replaced while it is checked does not sign in as its successor.
func TestReplacedWhileItIsChecked(t *testing.T) {
	r := newRig(t, func(o *ui.Options) { o.SignIn.Password = &replaced{} })
	if w := r.signIn("ann", password); w.Code != http.StatusUnauthorized || r.who() != "" {
		t.Errorf("signed in: %d, is %q", w.Code, r.who())
	}
}

func TestSignInWithProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		claims := map[string]any{"sub": "1"}
		for i := range 200 { // more than one cookie holds
			claims["group"+strings.Repeat("x", i%40)] = strings.Repeat("g", 100)
		}
		p := &corp{who: authz.Identity{ID: "oidc:corp:1", Username: "ann", Method: authz.MethodOIDC, OIDC: &authz.OIDC{Provider: "corp", Subject: "1", Claims: claims}}}
		r := newRig(t, func(o *ui.Options) { o.SignIn.Providers = []ui.Provider{p} })
		begin := func() string {
			w := r.get("/ui/login/provider?name=corp&to=/ui/activity")
			if w.Code != http.StatusSeeOther || !strings.HasPrefix(w.Header().Get("Location"), "https://corp.example/auth?") {
				t.Errorf("begun: %d %v", w.Code, w.Header())
			}
			return "/ui/login/callback?code=the+code&state=" + p.keep["state"]
		}
		at := begin()
		if c := r.cookies["weir_login"]; c == nil || c.SameSite != http.SameSiteLaxMode || !c.HttpOnly || c.Path != "/ui/login/callback" {
			t.Errorf("cookie %v", c)
		}
		if redirect := p.keep["redirect"]; redirect != "http://example.com/ui/login/callback" {
			t.Errorf("redirect %q", redirect)
		}
		w := r.get(at)
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `href="/ui/activity"`) || r.cookies["weir_session_1"] == nil || r.cookies["weir_login"] != nil {
			t.Errorf("back: %d %v", w.Code, r.cookies)
		}
		if who := r.who(); who != "oidc:corp:1" {
			t.Errorf("is %q", who)
		}
		p.at = "/other"
		if who := r.who(); who != "" {
			t.Errorf("of an issuer that is another one by now: is %q", who)
		}
		p.at = ""
		without := newRig(t)
		without.cookies = r.cookies
		if who := without.who(); who != "" {
			t.Errorf("where nobody vouches any more: is %q", who)
		}
		if w := r.get(begin() + "&iss=https://corp.example"); w.Code != http.StatusOK {
			t.Errorf("with its issuer: %d", w.Code)
		}
		r.cookies = map[string]*http.Cookie{}
		for what, change := range map[string]func(at string) string{
			"another state":   func(at string) string { return strings.Replace(at, "state=", "state=x", 1) },
			"no state":        func(string) string { return "/ui/login/callback?code=the+code" },
			"another code":    func(at string) string { return strings.Replace(at, "the+code", "another", 1) },
			"another issuer":  func(at string) string { return at + "&iss=https://evil.example" },
			"refused":         func(at string) string { return at + "&error=access_denied" },
			"another browser": func(at string) string { r.cookies = map[string]*http.Cookie{}; return at },
			"too late":        func(at string) string { time.Sleep(10 * time.Minute); return at },
			"a session's seal": func(at string) string {
				r.signIn("ann", password)
				r.cookies["weir_login"].Value = r.cookies["weir_session"].Value
				delete(r.cookies, "weir_session")
				return at
			},
		} {
			if w := r.get(change(begin())); w.Code != http.StatusForbidden || r.cookies["weir_session"] != nil {
				t.Errorf("%s: %d %v", what, w.Code, r.cookies)
			}
			r.cookies = map[string]*http.Cookie{}
		}
		at = begin()
		p.err = authz.ErrUnavailable
		if w := r.get(at); w.Code != http.StatusServiceUnavailable || r.cookies["weir_session"] != nil {
			t.Errorf("away: %d", w.Code)
		}
		if w := r.get("/ui/login/provider?name=other"); w.Code != http.StatusNotFound {
			t.Errorf("another provider: %d", w.Code)
		}
	})
}

// Nobody is led elsewhere by an address that begins here.
func TestSignInStaysHere(t *testing.T) {
	r := newRig(t)
	for _, to := range []string{"https://evil.example/", "//evil.example", "/\\evil.example", "/ui/..//evil.example", "/ui/\\evil", "/v2/", "", "/ui/logout", "javascript:alert(1)", "/ui/\r\nX: y"} {
		w := r.do(http.MethodPost, "/ui/login", url.Values{"username": {"ann"}, "password": {password}, "to": {to}})
		if at := w.Header().Get("Location"); at != "/ui/" {
			t.Errorf("%q leads to %q", to, at)
		}
	}
}

// ended is what replicas share of sessions that were ended.
type ended struct {
	names map[string]time.Time
	err   error
}

func (e *ended) End(_ context.Context, name string, until time.Time) error {
	if e.err == nil {
		e.names[name] = until
	}
	return e.err
}

func (e *ended) Ended(_ context.Context, name string, until time.Time) (bool, error) {
	return e.names[name].Equal(until), e.err
}

// Signing out ends the session and not only this browser's memory of it: a copy of its
// cookie is nobody's from then on, at all replicas; who signed in elsewhere stays.
func TestSignOutEndsTheSession(t *testing.T) {
	shared := &ended{names: map[string]time.Time{}}
	replica := func() *rig {
		return newRig(t, func(o *ui.Options) { o.SignIn.Ended = shared })
	}
	r, elsewhere := replica(), replica()
	signOut := func() int { return r.do(http.MethodPost, "/ui/logout", url.Values{}).Code }
	r.signIn("ann", password)
	elsewhere.signIn("ann", password)
	copied := maps.Clone(r.cookies)
	if code := signOut(); code != http.StatusSeeOther || len(r.cookies) > 0 || len(shared.names) != 1 {
		t.Errorf("signed out: %d %v %v", code, r.cookies, shared.names)
	}
	for name, at := range map[string]*rig{"here": r, "at another replica": replica()} {
		at.cookies = maps.Clone(copied)
		if who := at.who(); who != "" {
			t.Errorf("by a copy, %s: is %q", name, who)
		}
	}
	if who := elsewhere.who(); who != "basic:ann" {
		t.Errorf("who signed in elsewhere is %q", who)
	}
	if code := signOut(); code != http.StatusSeeOther || len(shared.names) != 1 {
		t.Errorf("signed out by what is ended: %d %v", code, shared.names)
	}

	r.cookies = maps.Clone(elsewhere.cookies)
	shared.err = errors.New("the store is away")
	if who := r.who(); who != "" {
		t.Errorf("where it cannot be known: is %q", who)
	}
	if code := signOut(); code != http.StatusServiceUnavailable || len(r.cookies) > 0 {
		t.Errorf("where it cannot be ended: %d %v", code, r.cookies)
	}
}
