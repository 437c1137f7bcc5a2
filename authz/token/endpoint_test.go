package token_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/token"
)

// passwords is an Authenticator of names and passwords.
type passwords map[string]string

func (p passwords) Authenticate(r *http.Request) (authz.Identity, error) {
	name, password, ok := r.BasicAuth()
	switch want, known := p[name]; {
	case !ok || !known || want != password:
		return authz.Identity{}, authz.ErrNone
	case password == "away":
		return authz.Identity{}, authz.ErrUnavailable
	}
	return authz.Identity{ID: "basic:" + name, Username: name, Method: authz.MethodBasic}, nil
}

// Stamp implements token.Stamper.
func (p passwords) Stamp(id string) (string, bool) {
	name, is := strings.CutPrefix(id, "basic:")
	stamp, known := p[name]
	return stamp, known && is
}

// rules is an Authorizer by a function, which writes down what it was asked.
type rules struct {
	may     func(who authz.Identity, what authz.Access) bool
	uniform bool
	asked   []string
}

func (r *rules) Authorize(_ context.Context, who authz.Identity, what authz.Access) error {
	r.asked = append(r.asked, fmt.Sprintf("%s %s %s %s %s", who.ID, what.Action, what.Operation, what.Repository, what.Upstream))
	if who.Client.IP.String() != "192.0.2.1" || who.Scope != nil || who.Method != authz.MethodToken || what.Time.IsZero() {
		return fmt.Errorf("a question that is none: %+v, %+v", who, what)
	}
	if r.may(who, what) {
		return nil
	}
	return &authz.Denial{By: "rules"}
}

func (r *rules) Uniform(string) bool { return r.uniform }

// readers may pull what is public, ann may do all below team, and nobody else anything.
func readers(who authz.Identity, what authz.Access) bool {
	switch {
	case who.ID == "basic:root":
		return true
	case what.Action == authz.Pull && strings.HasPrefix(what.Repository, "public/"):
		return true
	}
	return who.ID == "basic:ann" && strings.HasPrefix(what.Repository, "team/") && what.Action != authz.Delete
}

// rig is an endpoint, with all that stands behind it.
type rig struct {
	t      testing.TB
	issuer *token.Issuer
	people passwords
	rules  *rules
	token.Options
	failed error
}

func newRig(t testing.TB) *rig {
	r := &rig{t: t, issuer: issuer(t), people: passwords{"ann": "secret", "root": "toor", "away": "away"}, rules: &rules{may: readers, uniform: true}}
	r.Options = token.Options{
		Issuer: r.issuer,
		Who:    authz.Chain{r.issuer, r.people},
		Client: func(*http.Request) authz.Client { return authz.Client{IP: netip.MustParseAddr("192.0.2.1")} },
		Rights: r.rules, Stamper: r.people,
		Fail: func(w http.ResponseWriter, _ *http.Request, err error) {
			r.failed = err
			w.WriteHeader(http.StatusTeapot)
		},
	}
	return r
}

// reply is what a client reads.
type reply struct {
	Token        string `json:"token"`
	AccessToken  string `json:"access_token"`
	ExpiresIn    int    `json:"expires_in"`
	IssuedAt     string `json:"issued_at"`
	Scope        string `json:"scope"`
	RefreshToken string `json:"refresh_token"`
}

func (r *rig) ask(req *http.Request) (reply, *http.Response, error) {
	r.t.Helper()
	r.failed = nil
	w := httptest.NewRecorder()
	token.NewEndpoint(r.Options).ServeHTTP(w, req)
	var a reply
	if r.failed == nil {
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || w.Code != 200 || w.Header().Get("Content-Type") != "application/json" {
			r.t.Errorf("%d %q: %v", w.Code, w.Body, err)
		}
		if at, err := time.Parse(time.RFC3339, a.IssuedAt); a.Token == "" || a.Token != a.AccessToken || a.ExpiresIn != 60 || err != nil || time.Since(at) > time.Minute {
			r.t.Errorf("%+v", a)
		}
	}
	if w.Header().Get("Cache-Control") != "no-store" {
		r.t.Error("it may be kept")
	}
	return a, w.Result(), r.failed
}

func get(query, name, password string) *http.Request {
	r := httptest.NewRequest("GET", "/token?"+query, nil)
	if name != "" {
		r.SetBasicAuth(name, password)
	}
	return r
}

func post(form string) *http.Request {
	r := httptest.NewRequest("POST", "/token", strings.NewReader(form))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

// refreshOf gives a refresh token.
func refreshOf(t testing.TB, i *token.Issuer) string {
	t.Helper()
	r := newRig(t)
	r.Options.Issuer = i
	a, _, err := r.ask(get("offline_token=true", "ann", "secret"))
	if err != nil || a.RefreshToken == "" {
		t.Fatal(a, err)
	}
	return a.RefreshToken
}

// What is asked for, by whom, and what they get: their identity, and the scope that the
// policy grants them. Nothing that is asked for is an error.
func TestGrants(t *testing.T) {
	const team = "repository:team/app:"
	form := func(more string) *http.Request { return post("client_id=x&service=weir&" + more) }
	for name, test := range map[string]struct {
		request *http.Request
		id      string
		scope   string
	}{
		"docker login":             {get("account=ann&client_id=docker&offline_token=true&service=weir", "ann", "secret"), "basic:ann", ""},
		"pull":                     {get("service=weir&scope="+team+"pull", "ann", "secret"), "basic:ann", team + "pull"},
		"push":                     {get("service=weir&scope="+team+"pull,push", "ann", "secret"), "basic:ann", team + "pull,push"},
		"another order":            {get("scope="+team+"push,pull", "ann", "secret"), "basic:ann", team + "pull,push"},
		"more than is granted":     {get("scope="+team+"pull,push,delete", "ann", "secret"), "basic:ann", team + "pull,push"},
		"everything":               {get("scope="+team+"*", "ann", "secret"), "basic:ann", team + "pull,push"},
		"everything, as root":      {get("scope="+team+"*", "root", "toor"), "basic:root", team + "pull,push,delete"},
		"an extension's change":    {get("scope="+team+"admin", "root", "toor"), "basic:root", team + "admin"},
		"what is not granted":      {get("scope="+team+"delete", "ann", "secret"), "basic:ann", ""},
		"elsewhere":                {get("scope=repository:other:pull", "ann", "secret"), "basic:ann", ""},
		"several":                  {get("scope="+team+"pull&scope=repository:public/a:pull,push&scope=repository:other:pull", "ann", "secret"), "basic:ann", team + "pull repository:public/a:pull"},
		"several in one":           {get("scope="+url.QueryEscape(team+"push repository:public/a:pull"), "ann", "secret"), "basic:ann", team + "push repository:public/a:pull"},
		"an unknown action":        {get("scope="+team+"pull,fly", "ann", "secret"), "basic:ann", team + "pull"},
		"an unknown type":          {get("scope=cow:team/app:pull&scope=repository(plugin):team/app:pull", "ann", "secret"), "basic:ann", ""},
		"no scope":                 {get("scope=x&scope=:::&scope=", "ann", "secret"), "basic:ann", ""},
		"no name":                  {get("scope=repository:team/APP:pull", "ann", "secret"), "basic:ann", ""},
		"the catalog":              {get("scope=registry:catalog:*", "root", "toor"), "basic:root", "registry:catalog:*"},
		"the catalog, not granted": {get("scope=registry:catalog:*", "ann", "secret"), "basic:ann", ""},
		"a part of the catalog":    {get("scope=registry:catalog:list&scope=registry:other:*", "root", "toor"), "basic:root", ""},
		"another service":          {get("service=other.corp&scope="+team+"pull", "ann", "secret"), "basic:ann", team + "pull"},
		"another account":          {get("account=root&scope="+team+"delete", "ann", "secret"), "basic:ann", ""},
		"nobody":                   {get("scope=repository:public/a:pull,push&scope="+team+"pull", "", ""), "", "repository:public/a:pull"},
		"by POST":                  {form("grant_type=password&username=ann&password=secret&scope=" + team + "pull"), "basic:ann", team + "pull"},
		"by POST, several":         {form("grant_type=password&username=ann&password=secret&scope=" + url.QueryEscape(team+"pull repository:public/a:pull")), "basic:ann", team + "pull repository:public/a:pull"},
		"by POST, not the query": {func() *http.Request {
			r := form("grant_type=password&username=ann&password=secret")
			r.URL.RawQuery = "scope=" + team + "pull"
			return r
		}(), "basic:ann", ""},
		"by POST, not the header": {func() *http.Request {
			r := form("grant_type=password&username=ann&password=secret")
			r.SetBasicAuth("root", "toor")
			return r
		}(), "basic:ann", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.Locate = func(_ context.Context, name string, _ bool) (string, string, error) {
				if name != strings.ToLower(name) {
					return "", "", errors.New("no name")
				}
				return name, "", nil
			}
			a, _, err := r.ask(test.request)
			if err != nil || a.Scope != test.scope {
				t.Fatalf("%q, %v; want %q", a.Scope, err, test.scope)
			}
			who, err := r.issuer.Authenticate(bearer(a.Token))
			if err != nil || who.ID != test.id || who.Scope == nil || who.Scope.String() != test.scope || who.Method != authz.MethodToken {
				t.Errorf("%+v, %v", who, err)
			}
			if offline := strings.Contains(test.request.URL.RawQuery, "offline"); (a.RefreshToken != "") != offline {
				t.Errorf("refresh token %q", a.RefreshToken)
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	r := newRig(t)
	pull, _, err := r.ask(get("scope=repository:team/app:pull&offline_token=true", "ann", "secret"))
	if err != nil {
		t.Fatal(err)
	}
	nobody, _, err := r.ask(get("scope=repository:public/a:pull", "", ""))
	if err != nil {
		t.Fatal(err)
	}
	with := func(r *http.Request, key, value string) *http.Request {
		r.Header.Set(key, value)
		return r
	}
	asBearer := func(token string) *http.Request {
		return with(get("scope=repository:team/app:push", "", ""), "Authorization", "Bearer "+token)
	}
	form := func(more string) *http.Request { return post("client_id=x&" + more) }
	for name, test := range map[string]struct {
		request *http.Request
		want    error
	}{
		"wrong":                      {get("", "ann", "wrong"), authz.ErrRejected},
		"unknown":                    {get("", "eve", "secret"), authz.ErrRejected},
		"no scheme that is known":    {with(get("", "", ""), "Authorization", "Digest x"), authz.ErrRejected},
		"away":                       {get("", "away", "away"), authz.ErrUnavailable},
		"a token for more":           {asBearer(pull.Token), authz.ErrRejected},
		"a token of nobody's":        {asBearer(nobody.Token), authz.ErrRejected},
		"a refresh token as bearer":  {asBearer(pull.RefreshToken), authz.ErrRejected},
		"a refresh token in a query": {get("grant_type=refresh_token&refresh_token="+pull.RefreshToken, "ann", "x"), authz.ErrRejected},
		"a query that is none":       {get("scope=%zz", "ann", "secret"), token.ErrRequest},
		"HEAD":                       {httptest.NewRequest("HEAD", "/token", nil), token.ErrMethod},
		"PUT":                        {httptest.NewRequest("PUT", "/token", nil), token.ErrMethod},
		"POST: no form":              {httptest.NewRequest("POST", "/token", strings.NewReader(`{}`)), token.ErrRequest},
		"POST: JSON":                 {with(form("grant_type=password&username=ann&password=secret"), "Content-Type", "application/json"), token.ErrRequest},
		"POST: no client":            {post("grant_type=password&username=ann&password=secret"), token.ErrRequest},
		"POST: no grant":             {form("username=ann&password=secret"), token.ErrRequest},
		"POST: another grant":        {form("grant_type=client_credentials"), token.ErrRequest},
		"POST: a bad form":           {form("grant_type=%zz"), token.ErrRequest},
		"POST: a large form":         {form("x=" + strings.Repeat("a", 70<<10)), token.ErrRequest},
		"POST: wrong":                {form("grant_type=password&username=ann&password=wrong"), authz.ErrRejected},
		"POST: no password":          {form("grant_type=password&username=ann"), authz.ErrRejected},
		"POST: nobody":               {form("grant_type=password"), authz.ErrRejected},
		"POST: a name with a colon":  {form("grant_type=password&username=ann:secret&password="), authz.ErrRejected},
		"POST: away":                 {form("grant_type=password&username=away&password=away"), authz.ErrUnavailable},
		"POST: a token as password":  {form("grant_type=password&username=ann&password=" + pull.Token), authz.ErrRejected},
		"POST: no refresh token":     {form("grant_type=refresh_token"), authz.ErrRejected},
		"POST: a token to refresh":   {form("grant_type=refresh_token&refresh_token=" + pull.Token), authz.ErrRejected},
		"POST: a word to refresh":    {form("grant_type=refresh_token&refresh_token=x"), authz.ErrRejected},
	} {
		t.Run(name, func(t *testing.T) {
			a, resp, err := r.ask(test.request)
			if !errors.Is(err, test.want) || a.Token != "" {
				t.Errorf("%+v, %v; want %v", a, err, test.want)
			}
			if retry := resp.Header.Get("Retry-After"); (retry != "") != (test.want == authz.ErrUnavailable) {
				t.Errorf("Retry-After %q", retry)
			}
			if allow := resp.Header.Get("Allow"); (allow != "") != (test.want == token.ErrMethod) {
				t.Errorf("Allow %q", allow)
			}
			for _, word := range []string{"secret", pull.Token, "zz"} {
				if strings.Contains(err.Error(), word) {
					t.Errorf("the error holds %q: %v", word, err)
				}
			}
		})
	}
}

// identified is an Authenticator that knows one.
type identified authz.Identity

func (i identified) Authenticate(*http.Request) (authz.Identity, error) {
	return authz.Identity(i), nil
}

// A token for a name is one for what the name leads to, where the guard looks.
func TestGrantsWhatNamesLeadTo(t *testing.T) {
	// As with mirror.default: what is not local is the hub's; what is pushed is local.
	locate := func(_ context.Context, name string, write bool) (string, string, error) {
		if write || name == "team/app" {
			return name, "", nil
		}
		return "hub/" + strings.TrimPrefix(name, "hub/"), "hub", nil
	}
	all := func(authz.Identity, authz.Access) bool { return true }
	for _, test := range []struct{ asked, want string }{
		{"repository:library/app:pull", "repository:hub/library/app:pull"},
		{"repository:hub/library/app:pull", "repository:hub/library/app:pull"},
		{"repository:library/app:pull repository:hub/library/app:pull", "repository:hub/library/app:pull"},
		{"repository:library/app:pull,push", "repository:hub/library/app:pull repository:library/app:pull,push"},
		{"repository:library/app:push", "repository:library/app:push"},
		{"repository:library/app:delete", "repository:hub/library/app:delete"},
		{"repository:team/app:pull,push", "repository:team/app:pull,push"},
	} {
		r := newRig(t)
		r.Locate, r.rules.may = locate, all
		a, _, err := r.ask(get("scope="+url.QueryEscape(test.asked), "ann", "secret"))
		if err != nil || a.Scope != test.want {
			t.Errorf("%s is %q, %v; want %q", test.asked, a.Scope, err, test.want)
		}
		for _, q := range r.rules.asked {
			if strings.Contains(q, " hub/") != strings.HasSuffix(q, " hub") {
				t.Errorf("asked %q", q)
			}
		}
	}
}

// What is decided by rules that look at more than a token says is granted if some of it
// is, since it is decided on again; where they do not, it is asked once.
func TestWhatIsAsked(t *testing.T) {
	for _, test := range []struct {
		name    string
		uniform bool
		may     func(authz.Identity, authz.Access) bool
		scope   string
		asked   []string
	}{
		{"once", true, func(authz.Identity, authz.Access) bool { return false }, "", []string{"pull ", "push "}},
		{
			"by operation", false, func(_ authz.Identity, a authz.Access) bool { return a.Operation == "get-blob" }, "repository:a:pull",
			[]string{"pull ", "pull get-manifest", "pull get-blob", "push ", "push start-upload", "push put-manifest", "push mount-blob"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			r.rules.uniform, r.rules.may = test.uniform, test.may
			a, _, err := r.ask(get("scope=repository:a:pull,push", "ann", "secret"))
			if err != nil || a.Scope != test.scope {
				t.Errorf("%q, %v", a.Scope, err)
			}
			var want []string
			for _, q := range test.asked {
				want = append(want, "basic:ann "+q+" a ")
			}
			if !slices.Equal(r.rules.asked, want) {
				t.Errorf("asked\n%q, want\n%q", r.rules.asked, want)
			}
		})
	}
	t.Run("at most", func(t *testing.T) {
		r := newRig(t)
		r.rules.uniform, r.rules.may = false, func(authz.Identity, authz.Access) bool { return false }
		var scopes []string
		for i := range 100 {
			scopes = append(scopes, fmt.Sprintf("repository:a%d:pull,push,delete", i))
		}
		if a, _, err := r.ask(get("scope="+url.QueryEscape(strings.Join(scopes, " ")), "ann", "secret")); err != nil || a.Scope != "" {
			t.Errorf("%q, %v", a.Scope, err)
		}
		if n := len(r.rules.asked); n != 200 {
			t.Errorf("asked %d times", n)
		}
	})
	t.Run("a policy that hangs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.Rights = hanging{}
			began := time.Now()
			a, _, err := r.ask(get("scope=repository:a:pull,push", "ann", "secret"))
			if err != nil || a.Scope != "" || time.Since(began) != 5*time.Second {
				t.Errorf("%q, %v after %v", a.Scope, err, time.Since(began))
			}
		})
	})
}

// hanging is an Authorizer that does not decide.
type hanging struct{}

func (hanging) Authorize(ctx context.Context, _ authz.Identity, _ authz.Access) error {
	<-ctx.Done()
	return ctx.Err()
}

// A token that would be too long grants less; where that is not enough there is none.
func TestNoRoom(t *testing.T) {
	r := newRig(t)
	r.rules.may = func(authz.Identity, authz.Access) bool { return true }
	who := somebody()
	var scopes []string
	for i := range 32 {
		scopes = append(scopes, fmt.Sprintf("repository:%s%d:pull", strings.Repeat("a", 250), i))
	}
	for size, want := range map[int]int{1: 32, 3000: 16, 9000: 8} {
		who.OIDC.Claims["x"] = strings.Repeat("x", size)
		r.Who = identified(who)
		a, _, err := r.ask(get("scope="+url.QueryEscape(strings.Join(scopes, " ")), "", ""))
		if err != nil || len(token.ParseScope(a.Scope)) != want {
			t.Errorf("%d bytes of claims: %d grants, %v; want %d", size, len(token.ParseScope(a.Scope)), err, want)
			continue
		}
		if who, err := r.issuer.Authenticate(bearer(a.Token)); err != nil || who.Scope.String() != a.Scope {
			t.Errorf("%d bytes of claims: %v", size, err)
		}
	}
	who.OIDC.Claims["x"] = strings.Repeat("x", token.MaxToken)
	r.Who = identified(who)
	if _, _, err := r.ask(get("", "", "")); !errors.Is(err, token.ErrRequest) {
		t.Error(err)
	}
}
