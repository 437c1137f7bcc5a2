package remote_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weir-registry/weir/origin/remote"
	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/remote/login"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// A token server on a host of realm_hosts sees the credentials, over https or over
// http as the endpoint itself is reached, and no redirect to it does.
func TestRealmHosts(t *testing.T) {
	certificate := selfSigned(t)
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(leakUser+":"+leakPassword))
	for name, test := range map[string]struct {
		hosts    func(port string) []string
		endpoint bool // https
		realm    bool // https
		redirect bool // the endpoint leads there by a redirect, and not by a realm
		want     string
		led      bool
	}{
		"named":                   {hosts: port, endpoint: true, realm: true, want: basic, led: true},
		"not named":               {hosts: nobody, endpoint: true, realm: true, led: true},
		"another port":            {hosts: other, endpoint: true, realm: true, led: true},
		"the default port":        {hosts: bare, endpoint: true, realm: true, led: true},
		"http from https":         {hosts: port, endpoint: true},
		"http from http":          {hosts: port, want: basic, led: true},
		"https from http":         {hosts: port, realm: true, want: basic, led: true},
		"by redirect":             {hosts: port, endpoint: true, realm: true, redirect: true, led: true},
		"by redirect from http":   {hosts: port, redirect: true, led: true},
		"by redirect to a lesser": {hosts: port, endpoint: true, redirect: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{remotetest.NewNames(map[string][]string{"registry.example.com": {"127.0.0.3"}, "auth.example.com": {"127.0.0.4"}})}
			shown := func(secure bool) (scheme string, _ *tls.Certificate) {
				if secure {
					return "https", &certificate
				}
				return "http", nil
			}
			scheme, cert := shown(test.realm)
			auth := listen(t, "127.0.0.4:0", cert, func(w http.ResponseWriter, _ *http.Request) {
				_, _ = fmt.Fprintf(w, `{"token":%q}`, leakToken)
			})
			realm := scheme + "://auth.example.com:" + auth.port() + "/token"
			scheme, cert = shown(test.endpoint)
			endpoint := listen(t, "127.0.0.3:0", cert, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case test.redirect && r.Header.Get("Authorization") == "":
					w.Header().Set("WWW-Authenticate", "Basic realm=x")
					w.WriteHeader(http.StatusUnauthorized)
				case test.redirect:
					http.Redirect(w, r, realm, http.StatusTemporaryRedirect)
				default:
					w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer realm=%q,service=s", realm))
					w.WriteHeader(http.StatusUnauthorized)
				}
			})
			ca := x509.NewCertPool()
			parsed, err := x509.ParseCertificate(certificate.Certificate[0])
			if err != nil {
				t.Fatal(err)
			}
			ca.AddCert(parsed)
			r, err := remote.New(remote.Options{
				URL: &url.URL{Scheme: scheme, Host: "registry.example.com:" + endpoint.port()}, TokenHosts: test.hosts(auth.port()),
				Login:   given{login.Login{Username: leakUser, Password: egress.Conceal(leakPassword)}},
				Trust:   egress.Always(&egress.Trust{CA: ca}),
				Network: w.network(),
			})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if _, err := r.Manifest(t.Context(), repo(t, "x"), ref(t, "1")); err == nil {
				t.Error("there is a manifest")
			}
			conns, _, heard := auth.count()
			if (conns > 0) != test.led {
				t.Errorf("%d connections", conns)
			}
			if got := strings.Contains(heard, "Authorization: "+basic); got != (test.want != "") {
				t.Errorf("it heard\n%s", heard)
			}
			if test.want == "" && strings.Contains(heard, "Authorization") {
				t.Errorf("it heard\n%s", heard)
			}
		})
	}
}

func port(p string) []string { return []string{"auth.example.com:" + p} }
func nobody(string) []string { return nil }
func other(string) []string  { return []string{"auth.example.com:1"} }
func bare(string) []string   { return []string{"auth.example.com"} }

// fresh gives logins one after the other: each drop leads to the next.
type fresh struct {
	mu     sync.Mutex
	logins []login.Login
	err    error // instead of what comes after the last
	drops  int
}

func (f *fresh) Login(context.Context) (login.Login, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.logins) == 0 {
		return login.Login{}, f.err
	}
	return f.logins[0], nil
}

func (f *fresh) Drop(l login.Login) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.logins) > 0 && f.logins[0] == l && (len(f.logins) > 1 || f.err != nil) {
		f.logins = f.logins[1:]
		f.drops++
	}
}

func password(s string) login.Login {
	return login.Login{Username: "u", Password: egress.Conceal(s)}
}

// A login that is refused, with 401 or with 403 that says that it lapsed, is had
// anew, once for each request.
func TestRefusedLoginIsHadAnew(t *testing.T) {
	const token = "GET /token?account=u&scope=repository%3Ax%3Apull&service=remotetest"
	for name, test := range map[string]struct {
		arm  func(u *remotetest.Upstream)
		want []string
	}{
		"basic 401": {func(u *remotetest.Upstream) { u.Basic("u", "new") }, []string{"GET /v2/ 401", "HEAD /v2/x/manifests/1 401", "HEAD /v2/x/manifests/1 200"}},
		"basic 403": {func(u *remotetest.Upstream) {
			u.Basic("u", "new")
			u.Fault("/manifests/", remotetest.Hook(func(w http.ResponseWriter, r *http.Request) bool {
				if _, p, _ := r.BasicAuth(); p == "new" {
					return false
				}
				w.WriteHeader(http.StatusForbidden)
				_, _ = io.WriteString(w, `{"errors":[{"code":"DENIED","message":"Your authorization token has expired"}]}`)
				return true
			}))
		}, []string{"GET /v2/ 401", "HEAD /v2/x/manifests/1 403", "HEAD /v2/x/manifests/1 200"}},
		"token 401": {func(u *remotetest.Upstream) {
			u.Bearer(remotetest.Bearer{Username: "u", Password: "new", Own: true})
		}, []string{"GET /v2/ 401", token + " 401", token + " 200", "HEAD /v2/x/manifests/1 200"}},
		"token 403": {func(u *remotetest.Upstream) {
			u.Bearer(remotetest.Bearer{Username: "u", Password: "new", Own: true})
			u.Fault("/token", remotetest.Hook(func(w http.ResponseWriter, r *http.Request) bool {
				if _, p, _ := r.BasicAuth(); p == "new" {
					return false
				}
				w.WriteHeader(http.StatusForbidden)
				return true
			}))
		}, []string{"GET /v2/ 401", token + " 403", token + " 200", "HEAD /v2/x/manifests/1 200"}},
	} {
		t.Run(name, func(t *testing.T) {
			u := remotetest.New(t)
			u.AddImage("x", "1")
			test.arm(u)
			f := &fresh{logins: []login.Login{password("old"), password("new")}}
			r := open(t, u.URL(), func(o *remote.Options) { o.Login = f })
			if _, err := r.Resolve(t.Context(), repo(t, "x"), ref(t, "1")); err != nil {
				t.Error(err)
			}
			equal(t, u.Requests(), test.want)
			// That the new one is not to be had is an outage, and not the old one's denial.
			f = &fresh{logins: []login.Login{password("old")}, err: errors.New("away")}
			r = open(t, u.URL(), func(o *remote.Options) { o.Login = f })
			_, err := r.Resolve(t.Context(), repo(t, "x"), ref(t, "1"))
			if e := upstreamError(t, err); e.Status != 0 || e.Denied() || !errors.Is(err, f.err) {
				t.Errorf("%+v", e)
			}
			// What is refused after all is the registry's word.
			f = &fresh{logins: []login.Login{password("old"), password("wrong"), password("never")}}
			r = open(t, u.URL(), func(o *remote.Options) { o.Login = f })
			_, err = r.Resolve(t.Context(), repo(t, "x"), ref(t, "1"))
			if e := upstreamError(t, err); !e.Denied() {
				t.Errorf("%+v", e)
			}
			if f.drops > 2 {
				t.Errorf("%d logins for one request", f.drops+1)
			}
		})
	}
}

// A refresh token goes into a POST; servers that have none are asked as ever.
func TestRefreshTokens(t *testing.T) {
	for _, test := range []struct {
		post int
		want []string
		ok   bool
	}{
		{200, []string{"POST"}, true},
		{400, []string{"POST", "GET"}, true},
		{401, []string{"POST", "GET"}, true},
		{404, []string{"POST", "GET"}, true},
		{405, []string{"POST", "GET"}, true},
		{403, []string{"POST"}, false},
		{429, []string{"POST"}, false},
		{503, []string{"POST"}, false},
		{307, []string{"POST"}, false},
		{302, []string{"POST"}, false},
	} {
		t.Run(fmt.Sprint(test.post), func(t *testing.T) {
			u := remotetest.New(t)
			u.AddImage("x", "1")
			u.Bearer(remotetest.Bearer{Own: true})
			var got []string
			var mu sync.Mutex
			u.Fault("/token", remotetest.Hook(func(w http.ResponseWriter, r *http.Request) bool {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, r.Method)
				b, _ := io.ReadAll(r.Body)
				if r.Method == http.MethodPost {
					form, err := url.ParseQuery(string(b))
					if err != nil || form.Get("refresh_token") != leakIdentity || form.Get("grant_type") != "refresh_token" ||
						form.Get("service") != "remotetest" || form.Get("scope") != "repository:x:pull" || form.Get("client_id") == "" ||
						r.URL.RawQuery != "" || r.Header.Get("Authorization") != "" || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
						t.Errorf("%s with %q and %v", r.URL, b, r.Header)
					}
					if test.post != http.StatusOK {
						w.Header().Set("Location", "/token")
						w.WriteHeader(test.post)
						_, _ = io.WriteString(w, `{"errors":[{"code":"DENIED","message":"no `+leakIdentity+`"}]}`)
						return true
					}
					q := url.Values{"service": {"remotetest"}, "scope": form["scope"]}
					r.URL.RawQuery = q.Encode()
					return false
				}
				if user, p, _ := r.BasicAuth(); user != leakUser || p != leakIdentity || len(b) > 0 {
					t.Errorf("GET as %q", user)
				}
				r.Header.Del("Authorization") // this token server gives everybody one
				return false
			}))
			r := open(t, u.URL(), func(o *remote.Options) {
				o.Login = given{login.Login{Username: leakUser, Identity: egress.Conceal(leakIdentity)}}
			})
			_, err := r.Resolve(t.Context(), repo(t, "x"), ref(t, "1"))
			if (err == nil) != test.ok || err != nil && strings.Contains(fmt.Sprintf("%v %+v", err, err), leakIdentity) {
				t.Error(err)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("asked with %q, want %q", got, test.want)
			}
		})
	}
	// It is worth nothing where a password is wanted.
	u := remotetest.New(t)
	u.AddImage("x", "1")
	u.Basic("u", "p")
	r := open(t, u.URL(), func(o *remote.Options) {
		o.Login = given{login.Login{Username: "u", Identity: egress.Conceal(leakIdentity)}}
	})
	_, err := r.Resolve(t.Context(), repo(t, "x"), ref(t, "1"))
	if e := upstreamError(t, err); e.Status != 0 {
		t.Errorf("%+v", e)
	}
	equal(t, u.Requests(), []string{"GET /v2/ 401"})
}

// Whom nobody knows is asked for as nobody.
func TestLoginOfNobody(t *testing.T) {
	for name, arm := range map[string]func(*remotetest.Upstream){
		"basic":  func(u *remotetest.Upstream) { u.Basic("u", "p") },
		"bearer": func(u *remotetest.Upstream) { u.Bearer(remotetest.Bearer{Own: true}) },
	} {
		u := remotetest.New(t)
		u.AddImage("x", "1")
		arm(u)
		r := open(t, u.URL(), func(o *remote.Options) { o.Login = given{} })
		_, err := r.Resolve(t.Context(), repo(t, "x"), ref(t, "1"))
		if (err == nil) != (name == "bearer") {
			t.Errorf("%s: %v", name, err)
		}
		for _, req := range u.Log() {
			if a := req.Header.Get("Authorization"); strings.HasPrefix(a, "Basic") || strings.Contains(req.URI, "account") {
				t.Errorf("%s came with %q", req, a)
			}
		}
	}
}
