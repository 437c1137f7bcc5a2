package remote

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/remote/login"
)

const (
	leakUser     = "canary-user"
	leakPassword = "canary-password-7d1"
	leakToken    = "canary-token-c44"
)

// heard is all that a server was sent.
type heard struct {
	mu    sync.Mutex
	conns int
	bytes bytes.Buffer
}

func (h *heard) note(r *http.Request) {
	dump, _ := httputil.DumpRequest(r, false) // of a request that was parsed
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bytes.Write(dump)
}

// host serves on an address of loopback.
func (h *heard) host(t *testing.T, address string, secure bool, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.note(r)
		handler(w, r)
	}))
	s.Listener.Close()
	s.Listener = l
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.conns++
		}
	}
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

// Whatever an upstream says about where to go next, and wherever that is, no host
// but the endpoint hears a credential, and those that must not be led to are not
// connected to. 127.0.0.3 and .4 are taken for public addresses here, the other
// ones are loopback as ever.
func TestNoCredentialLeaves(t *testing.T) {
	type way struct {
		name string
		// answer lets the endpoint lead to a URL.
		answer func(w http.ResponseWriter, r *http.Request, to string)
	}
	admitted := func(r *http.Request) bool {
		user, password, ok := r.BasicAuth()
		return ok && user == leakUser && password == leakPassword || r.Header.Get("Authorization") == "Bearer "+leakToken
	}
	challenge := func(w http.ResponseWriter, s string) {
		w.Header().Set("WWW-Authenticate", s)
		w.WriteHeader(http.StatusUnauthorized)
	}
	ways := []way{
		{"realm", func(w http.ResponseWriter, _ *http.Request, to string) {
			challenge(w, fmt.Sprintf("Bearer realm=%q,service=s", to))
		}},
		{"realm that redirects", func(w http.ResponseWriter, r *http.Request, to string) {
			if r.URL.Path == "/token" {
				if !admitted(r) {
					w.WriteHeader(http.StatusForbidden)
					return
				}
				w.Header().Set("Location", to)
				w.WriteHeader(http.StatusFound)
				return
			}
			challenge(w, fmt.Sprintf("Bearer realm=%q,service=s", ownOrigin(r)+"/token"))
		}},
		{"redirect of basic", func(w http.ResponseWriter, r *http.Request, to string) {
			if !admitted(r) {
				challenge(w, "Basic realm=x")
				return
			}
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusTemporaryRedirect)
		}},
		{"redirect of bearer", func(w http.ResponseWriter, r *http.Request, to string) {
			switch {
			case r.URL.Path == "/token":
				_, _ = fmt.Fprintf(w, `{"token":%q}`, leakToken)
			case !admitted(r):
				challenge(w, fmt.Sprintf("Bearer realm=%q,service=s", ownOrigin(r)+"/token"))
			default:
				w.Header().Set("Location", to)
				w.WriteHeader(http.StatusMovedPermanently)
			}
		}},
		{"page of a listing", func(w http.ResponseWriter, r *http.Request, to string) {
			if !admitted(r) {
				challenge(w, "Basic realm=x")
				return
			}
			w.Header().Set("Link", "<"+to+`>; rel="next"`)
			_, _ = fmt.Fprint(w, `{"tags":["1"]}`)
		}},
	}
	targets := map[string]struct {
		at     string // where the canary listens
		secure bool   // the endpoint
		to     func(canary string) string
		denied bool // no connection at all
	}{
		"other host":         {at: "127.0.0.4:0", to: func(c string) string { return "http://" + c + "/t" }},
		"other port":         {at: "127.0.0.3:0", to: func(c string) string { return "http://" + c + "/t" }},
		"http downgrade":     {at: "127.0.0.3:0", secure: true, to: func(c string) string { return "http://" + c + "/t" }, denied: true},
		"userinfo":           {at: "127.0.0.4:0", to: func(c string) string { return "http://a:b@" + c + "/t" }, denied: true},
		"hidden userinfo":    {at: "127.0.0.4:0", to: func(c string) string { return "http://127.0.0.3:80@" + c + "/t" }, denied: true},
		"no scheme":          {at: "127.0.0.4:0", to: func(c string) string { return "//" + c + "/t" }},
		"chain":              {at: "127.0.0.4:0", to: func(c string) string { return "http://" + c + "/chain" }},
		"internal literal":   {at: "127.0.0.1:0", to: func(c string) string { return "http://" + c + "/t" }, denied: true},
		"v4-mapped":          {at: "127.0.0.1:0", to: func(c string) string { return "http://[::ffff:127.0.0.1]" + c[strings.Index(c, ":"):] + "/t" }, denied: true},
		"decimal":            {at: "127.0.0.1:0", to: func(c string) string { return "http://2130706433" + c[strings.Index(c, ":"):] + "/t" }, denied: true},
		"name of an address": {at: "127.0.0.1:0", to: func(c string) string { return "http://localhost" + c[strings.Index(c, ":"):] + "/t" }, denied: true},
		"unspecified":        {at: "127.0.0.1:0", to: func(c string) string { return "http://0.0.0.0" + c[strings.Index(c, ":"):] + "/t" }, denied: true},
		"metadata":           {at: "127.0.0.1:0", to: func(string) string { return "http://169.254.169.254/latest/meta-data/" }, denied: true},
		"file":               {at: "127.0.0.1:0", to: func(string) string { return "file:///etc/passwd" }, denied: true},
	}
	secrets := []string{
		leakUser, leakPassword, leakToken,
		base64.StdEncoding.EncodeToString([]byte(leakUser + ":" + leakPassword)),
	}
	x, err := origin.ParseRepo("x")
	if err != nil {
		t.Fatal(err)
	}
	tag, err := origin.ParseRef("1")
	if err != nil {
		t.Fatal(err)
	}
	for _, way := range ways {
		for name, target := range targets {
			t.Run(way.name+"/"+name, func(t *testing.T) {
				var canary, own heard
				led := canary.host(t, target.at, false, func(w http.ResponseWriter, r *http.Request) {
					if strings.HasPrefix(r.URL.Path, "/chain") && len(r.URL.Path) < 26 {
						w.Header().Set("Location", r.URL.Path+"x")
						w.WriteHeader(http.StatusFound)
						return
					}
					w.Header().Set("Set-Cookie", "canary=1")
					// It asks for credentials itself, as CVE-2020-15157 had it.
					w.Header().Set("WWW-Authenticate", "Basic realm=x")
					w.WriteHeader(http.StatusUnauthorized)
				})
				to := target.to(led.Listener.Addr().String())
				from := "127.0.0.3:0"
				if target.secure {
					from = "127.0.0.1:0" // which the certificate of httptest is for
				}
				endpoint := own.host(t, from, target.secure, func(w http.ResponseWriter, r *http.Request) { way.answer(w, r, to) })
				at, err := url.Parse(endpoint.URL)
				if err != nil {
					t.Fatal(err)
				}
				o := Options{
					URL: at, Login: login.Static(leakUser, func() (string, error) { return leakPassword, nil }),
					Network: egress.Network{Classify: func(a netip.Addr) egress.Reach {
						switch a.Unmap().String() {
						case "127.0.0.3", "127.0.0.4":
							return egress.Public
						}
						return egress.ReachOf(a)
					}},
				}
				if target.secure {
					ca := x509.NewCertPool()
					ca.AddCert(endpoint.Certificate())
					o.Trust = egress.Always(&egress.Trust{CA: ca})
				}
				r, err := New(o)
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				_, err = r.Manifest(t.Context(), x, tag)
				if err == nil {
					t.Error("a manifest came")
				}
				_, tagsErr := r.Tags(t.Context(), x, origin.Page{N: 9})
				said := fmt.Sprintf("%v %v %v %+v %#v", err, tagsErr, r, r, r)
				for _, secret := range secrets[1:] {
					if strings.Contains(said, secret) {
						t.Errorf("%q is in %s", secret, said)
					}
				}
				for _, secret := range secrets {
					if strings.Contains(canary.bytes.String(), secret) {
						t.Errorf("the canary heard\n%s", &canary.bytes)
					}
				}
				if strings.Contains(canary.bytes.String(), "Cookie") || strings.Contains(canary.bytes.String(), "Authorization") {
					t.Errorf("the canary heard\n%s", &canary.bytes)
				}
				if own.bytes.Len() == 0 {
					t.Error("the endpoint heard nothing")
				}
				if (target.denied || way.name == "page of a listing") && canary.conns > 0 {
					t.Errorf("%d connections", canary.conns)
				}
				if !target.denied && way.name != "page of a listing" && canary.conns == 0 {
					t.Error("the canary was not led to, and proves nothing")
				}
			})
		}
	}
}

// ownOrigin is where a request came in.
func ownOrigin(r *http.Request) string {
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}
