package remote_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote"
	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/remote/login"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/store"
)

var quiet = log.New(io.Discard, "", 0)

func direct(*http.Request) (*url.URL, error) { return nil, nil }

const (
	leakUser     = "canary-user"
	leakPassword = "canary-password-7d1"
	leakIdentity = "canary-identity-e02"
	leakToken    = "canary-token-c44"
)

// secrets are what no canary may hear, in all the forms in which it is sent.
func secrets() []string {
	return []string{
		leakPassword, leakIdentity, leakToken,
		base64.StdEncoding.EncodeToString([]byte(leakUser + ":" + leakPassword)),
		base64.StdEncoding.EncodeToString([]byte(leakUser + ":" + leakIdentity)),
	}
}

// way is how an upstream leads somewhere.
type way struct {
	// answer lets the endpoint lead to a URL.
	answer func(w http.ResponseWriter, r *http.Request, to string)
	// ask does what makes a client follow.
	ask func(t *testing.T, o *remote.Origin) error
	// identity says that the login is a refresh token.
	identity bool
	// never says that the way is not followed to any other host.
	never bool
}

func ways() map[string]way {
	admitted := func(r *http.Request) bool {
		user, password, ok := r.BasicAuth()
		return ok && user == leakUser && password == leakPassword || r.Header.Get("Authorization") == "Bearer "+leakToken
	}
	challenge := func(w http.ResponseWriter, s string) {
		w.Header().Set("WWW-Authenticate", s)
		w.WriteHeader(http.StatusUnauthorized)
	}
	basic := func(w http.ResponseWriter, r *http.Request) bool {
		if !admitted(r) {
			challenge(w, "Basic realm=x")
		}
		return admitted(r)
	}
	redirect := func(w http.ResponseWriter, to string, status int) {
		w.Header().Set("Location", to)
		w.WriteHeader(status)
	}
	// bearer has clients buy a token at the endpoint's own token server.
	bearer := func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Path == "/token":
			_, _ = fmt.Fprintf(w, `{"token":%q}`, leakToken)
		case r.Header.Get("Authorization") != "Bearer "+leakToken:
			challenge(w, fmt.Sprintf("Bearer realm=%q,service=s", ownOrigin(r)+"/token"))
		default:
			return true
		}
		return false
	}
	pull := func(t *testing.T, o *remote.Origin) error {
		_, err := o.Manifest(t.Context(), repo(t, "x"), ref(t, "1"))
		return err
	}
	blob := func(t *testing.T, o *remote.Origin) error {
		_, err := o.Blob(t.Context(), repo(t, "x"), digest.FromString("b"), store.Range{})
		return err
	}
	realm := func(w http.ResponseWriter, _ *http.Request, to string) {
		challenge(w, fmt.Sprintf("Bearer realm=%q,service=s", to))
	}
	// upload pushes a blob that goes with the last request, and one that streams: only the
	// first can be sent again where it is redirected.
	upload := func(t *testing.T, o *remote.Origin) error {
		errs := make([]error, 2)
		for i, size := range []int{4, 128 << 10} {
			in, err := o.Upload(t.Context(), repo(t, "x"), "", digest.SHA256)
			if err == nil {
				content := bytes.Repeat([]byte("x"), size)
				if _, err = in.Write(content); err == nil {
					_, err = in.Commit(t.Context(), digest.FromBytes(content))
				}
				_ = in.Cancel() // has no error
			}
			if err == nil {
				return nil
			}
			errs[i] = err
		}
		return errors.Join(errs...)
	}
	return map[string]way{
		"realm":                   {answer: realm, ask: pull},
		"realm for refresh token": {answer: realm, ask: pull, identity: true},
		"redirect of the token server": {ask: pull, answer: func(w http.ResponseWriter, r *http.Request, to string) {
			if r.URL.Path == "/token" {
				redirect(w, to, http.StatusFound)
				return
			}
			bearer(w, r)
		}},
		"redirect of a refresh token": {ask: pull, identity: true, never: true, answer: func(w http.ResponseWriter, r *http.Request, to string) {
			if r.URL.Path == "/token" {
				redirect(w, to, http.StatusTemporaryRedirect)
				return
			}
			bearer(w, r)
		}},
		"redirect of a manifest, basic": {ask: pull, answer: func(w http.ResponseWriter, r *http.Request, to string) {
			if basic(w, r) {
				redirect(w, to, http.StatusTemporaryRedirect)
			}
		}},
		"redirect of a blob, bearer": {ask: blob, answer: func(w http.ResponseWriter, r *http.Request, to string) {
			if bearer(w, r) {
				redirect(w, to, http.StatusMovedPermanently)
			}
		}},
		"upload Location": {ask: upload, answer: func(w http.ResponseWriter, r *http.Request, to string) {
			if basic(w, r) {
				redirect(w, to, http.StatusAccepted)
			}
		}},
		"redirect of an upload": {ask: upload, answer: func(w http.ResponseWriter, r *http.Request, to string) {
			switch {
			case !basic(w, r):
			case r.Method == http.MethodPost:
				redirect(w, "/upload", http.StatusAccepted)
			default:
				redirect(w, to, http.StatusPermanentRedirect)
			}
		}},
		"next-page Link": {
			never: true,
			ask: func(t *testing.T, o *remote.Origin) error {
				_, err := o.Tags(t.Context(), repo(t, "x"), origin.Page{N: 9})
				return err
			},
			answer: func(w http.ResponseWriter, r *http.Request, to string) {
				if basic(w, r) {
					w.Header().Set("Link", "<"+to+`>; rel="next"`)
					_, _ = io.WriteString(w, `{"tags":["1"]}`)
				}
			},
		},
		"urls of a layer": {
			never: true,
			ask: func(t *testing.T, o *remote.Origin) error {
				m, err := o.Manifest(t.Context(), repo(t, "x"), ref(t, "1"))
				if err != nil {
					return err
				}
				contents, err := origin.ReadManifest(m.MediaType, m.Bytes)
				if err != nil {
					return err
				}
				for _, d := range contents.Blobs {
					if _, err := o.Stat(t.Context(), repo(t, "x"), d.Digest); err == nil {
						t.Error("a blob that is not there")
					}
				}
				return blob(t, o)
			},
			answer: func(w http.ResponseWriter, r *http.Request, to string) {
				switch {
				case !basic(w, r):
				case strings.Contains(r.URL.Path, "/manifests/"):
					w.Header().Set("Content-Type", origin.MediaTypeOCIManifest)
					_, _ = fmt.Fprintf(w, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},
"layers":[{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":%q,"size":1,"urls":[%q]}]}`,
						origin.MediaTypeOCIManifest, digest.FromString("{}"), digest.FromString("b"), to)
				case r.URL.Path != "/v2/":
					w.Header().Set("Location", to) // which says nothing beside a 404
					w.WriteHeader(http.StatusNotFound)
				}
			},
		},
	}
}

// target is where an upstream leads.
type target struct {
	at     string   // where the canary listens, "" = where the endpoint is
	names  []string // what canary.example.com leads to, look-up by look-up
	host   string   // the host in the URL
	user   string   // before it
	plain  bool     // http, whatever the endpoint has
	chain  bool     // the canary redirects to itself twenty times
	denied bool     // no connection at all
	first  string   // where the first look-up leads, which may be connected to
}

func targets() map[string]target {
	return map[string]target{
		"other host":          {at: "127.0.0.4", names: []string{"127.0.0.4"}, host: "canary.example.com"},
		"other port":          {at: "127.0.0.3", host: "registry.example.com"},
		"http downgrade":      {at: "127.0.0.4", names: []string{"127.0.0.4"}, host: "canary.example.com", plain: true, denied: true},
		"downgrade, own host": {at: "127.0.0.3", host: "registry.example.com", plain: true, denied: true},
		"literal loopback":    {at: "127.0.0.1", host: "127.0.0.1", denied: true},
		"literal private":     {at: "127.0.0.5", host: "127.0.0.5", denied: true},
		"literal metadata":    {at: "127.0.0.6", host: "127.0.0.6", denied: true},
		"link-local":          {at: "127.0.0.6", host: "169.254.169.254", denied: true},
		"unspecified":         {at: "127.0.0.1", host: "0.0.0.0", denied: true},
		"v4-mapped":           {at: "127.0.0.1", host: "[::ffff:127.0.0.1]", denied: true},
		"NAT64":               {at: "127.0.0.1", host: "[64:ff9b::127.0.0.1]", denied: true},
		"decimal":             {at: "127.0.0.1", host: "2130706433", denied: true},
		"hexadecimal":         {at: "127.0.0.1", host: "0x7f000001", denied: true},
		"octal":               {at: "127.0.0.1", host: "0177.0.0.1", denied: true},
		"name to loopback":    {at: "127.0.0.1", names: []string{"127.0.0.1"}, host: "canary.example.com", denied: true},
		"name to private":     {at: "127.0.0.5", names: []string{"127.0.0.5"}, host: "canary.example.com", denied: true},
		"name to metadata":    {at: "127.0.0.6", names: []string{"127.0.0.6"}, host: "canary.example.com", denied: true},
		"localhost":           {at: "127.0.0.1", host: "localhost", denied: true},
		"rebinding":           {at: "127.0.0.1", names: []string{"127.0.0.4", "127.0.0.1"}, host: "canary.example.com", denied: true, first: "127.0.0.4"},
		"userinfo":            {at: "127.0.0.4", names: []string{"127.0.0.4"}, host: "canary.example.com", user: "a:b@", denied: true},
		"hidden userinfo":     {at: "127.0.0.4", names: []string{"127.0.0.4"}, host: "canary.example.com", user: "registry.example.com:443@", denied: true},
		"chain":               {at: "127.0.0.4", names: []string{"127.0.0.4"}, host: "canary.example.com", chain: true},
	}
}

// Whatever an upstream says about where to go next, and wherever that is, no host
// but the endpoint hears a credential, and what must not be led to is not connected
// to: every way of leading, to every kind of address.
func TestNoCredentialLeaves(t *testing.T) {
	certificate := selfSigned(t)
	for name, way := range ways() {
		for where, target := range targets() {
			for _, secure := range []bool{false, true} {
				if target.plain && !secure {
					continue // there is nothing to fall from
				}
				scheme := map[bool]string{false: "http", true: "https"}[secure]
				t.Run(name+"/"+where+"/"+scheme, func(t *testing.T) { lead(t, way, target, secure, certificate) })
			}
		}
	}
}

func lead(t *testing.T, way way, target target, secure bool, certificate tls.Certificate) {
	served := func(secure bool) *tls.Certificate {
		if !secure {
			return nil
		}
		return &certificate
	}
	names := map[string][]string{"registry.example.com": {"127.0.0.3"}}
	if target.names != nil {
		names["canary.example.com"] = target.names
	}
	w := &world{remotetest.NewNames(names)}
	asks := func(w http.ResponseWriter, r *http.Request) {
		if target.chain && len(r.URL.Path) < 22 {
			w.Header().Set("Location", r.URL.Path+"x")
			w.WriteHeader(http.StatusTemporaryRedirect)
			return
		}
		w.Header().Set("Set-Cookie", "canary=1")
		// It asks for credentials itself, as CVE-2020-15157 had it.
		w.Header().Set("WWW-Authenticate", "Basic realm=x")
		w.WriteHeader(http.StatusUnauthorized)
	}
	led := listen(t, target.at+":0", served(secure && !target.plain), asks)
	var first *canary
	if target.first != "" {
		first = listen(t, target.first+":"+led.port(), served(secure), asks)
	}
	to := map[bool]string{false: "http", true: "https"}[secure && !target.plain] + "://" + target.user + target.host + ":" + led.port() + "/t"
	endpoint := listen(t, "127.0.0.3:0", served(secure), func(w http.ResponseWriter, r *http.Request) { way.answer(w, r, to) })
	at := &url.URL{Scheme: map[bool]string{false: "http", true: "https"}[secure], Host: "registry.example.com:" + endpoint.port(), Path: "/"}

	trust := egress.Always(&egress.Trust{})
	if secure {
		ca := x509.NewCertPool()
		ca.AddCert(endpoint.Certificate())
		trust = egress.Always(&egress.Trust{CA: ca})
	}
	who := login.Login{Username: leakUser, Password: egress.Conceal(leakPassword)}
	if way.identity {
		who = login.Login{Username: leakUser, Identity: egress.Conceal(leakIdentity)}
	}
	o, err := remote.NewOrigin(remote.Options{URL: at, Login: given{who}, Trust: trust, Network: w.network()})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()

	for range 2 { // the second time names may lead elsewhere
		err := way.ask(t, o)
		if err == nil && !way.never {
			t.Error("it went well")
		}
		for _, secret := range secrets() {
			if said := fmt.Sprintf("%v %+v %v %+v %#v", err, err, o, o, o); strings.Contains(said, secret) {
				t.Errorf("%q is in %s", secret, said)
			}
		}
		o.Registry.Close() // what is connected needs no look-up
	}
	for _, c := range []*canary{led, first} {
		if c == nil {
			continue
		}
		_, reqs, heard := c.count()
		for _, secret := range append(secrets(), leakUser, "Cookie:", "Authorization:") {
			if strings.Contains(heard, secret) {
				t.Errorf("the canary heard %q\n%s", secret, heard)
			}
		}
		if reqs > 2*4*11 { // twice at most four requests, each of which is redirected ten times
			t.Errorf("%d requests in a chain", reqs)
		}
	}
	if conns, _, _ := led.count(); (target.denied || way.never) && conns > 0 {
		t.Errorf("%d connections", conns)
	} else if !target.denied && !way.never && conns == 0 {
		t.Error("the canary was not led to, and proves nothing")
	}
	if first != nil && !way.never {
		if conns, _, _ := first.count(); conns == 0 {
			t.Error("the first address was not led to, and the second proves nothing")
		}
	}
	if _, reqs, _ := endpoint.count(); reqs == 0 {
		t.Error("the endpoint heard nothing")
	}
}

// given is a login that stays.
type given struct{ login login.Login }

func (g given) Login(context.Context) (login.Login, error) { return g.login, nil }
func (given) Drop(login.Login)                             {}

// ownOrigin is where a request came in.
func ownOrigin(r *http.Request) string {
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}
