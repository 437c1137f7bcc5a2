package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/oidc"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// place is a server that writes down who connects and what it hears.
type place struct {
	*httptest.Server
	mu    sync.Mutex
	conns int
	heard bytes.Buffer
}

// settle starts one at an address of loopback; nil = http.
func settle(t *testing.T, address string, certificate *tls.Certificate, h http.HandlerFunc) *place {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	p := &place{}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		dump, err := httputil.DumpRequest(r, true)
		p.mu.Lock()
		p.heard.Write(dump)
		p.mu.Unlock()
		if err != nil {
			t.Error(err)
		}
		h(w, r)
	}))
	_ = p.Listener.Close()
	p.Listener = l
	p.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.conns++
		}
	}
	if certificate == nil {
		p.Start()
	} else {
		p.TLS = &tls.Config{Certificates: []tls.Certificate{*certificate}}
		p.StartTLS()
	}
	t.Cleanup(p.Close)
	return p
}

func (p *place) port() string {
	_, port, _ := net.SplitHostPort(p.Listener.Addr().String())
	return port
}

func (p *place) count() (conns int, heard string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conns, p.heard.String()
}

// exampleCertificate is one for all of example.com, and the file that it is in.
func exampleCertificate(t *testing.T) (_ *tls.Certificate, ca string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"*.example.com"}, NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, ca
}

// onLoopback is a network where 127.0.0.3 and .4 are public, .5 is a private network's,
// .6 a cloud's metadata.
func onLoopback(names map[string][]string) egress.Network {
	return egress.Network{
		Resolver: remotetest.NewNames(names).Resolver(),
		Proxy:    func(*http.Request) (*url.URL, error) { return nil, nil },
		Classify: func(a netip.Addr) egress.Reach {
			switch a.Unmap().String() {
			case "127.0.0.3", "127.0.0.4":
				return egress.Public
			case "127.0.0.5":
				return egress.Internal
			case "127.0.0.6":
				return egress.Never
			}
			return egress.ReachOf(a)
		},
	}
}

// forged is a token that names an issuer, and is signed by nobody.
func forged(t *testing.T, issuer string) string {
	t.Helper()
	payload, err := json.Marshal(map[string]any{"iss": issuer, "aud": "weir", "sub": "ann", "exp": time.Now().Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	return b64([]byte(`{"alg":"RS256","kid":"1"}`)) + "." + b64(payload) + "." + b64([]byte("canary-signature"))
}

func showing(token string) *http.Request {
	return &http.Request{Header: http.Header{"Authorization": {"Bearer " + token}}}
}

// trust.md's S-1, the rows of OIDC discovery and of JWKS: wherever an issuer leads, by
// its document or by a redirect, it is not to an address that is not its to name, and
// nobody there hears anything of the token.
func TestWhereAnIssuerLeads(t *testing.T) {
	certificate, ca := exampleCertificate(t)
	const document, keys = "/.well-known/openid-configuration", "/jwks"
	redirect := func(w http.ResponseWriter, to string) {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusTemporaryRedirect)
	}
	discovered := func(w http.ResponseWriter, issuer, to string) {
		_, _ = fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, issuer, to)
	}
	ways := map[string]struct {
		configured bool // jwks_uri is
		answer     func(w http.ResponseWriter, path, issuer, to string)
	}{
		"jwks_uri": {answer: func(w http.ResponseWriter, _, issuer, to string) { discovered(w, issuer, to) }},
		"redirect of the document": {answer: func(w http.ResponseWriter, _, _, to string) {
			redirect(w, to)
		}},
		"redirect of the keys": {answer: func(w http.ResponseWriter, path, issuer, to string) {
			if path == document {
				discovered(w, issuer, issuer+keys)
				return
			}
			redirect(w, to)
		}},
		"redirect of configured keys": {configured: true, answer: func(w http.ResponseWriter, _, _, to string) { redirect(w, to) }},
	}
	places := map[string]struct {
		listen string // where something listens that would answer
		plain  bool   // with http
		to     func(port string) string
		names  []string // what there.example.com is
		chain  bool     // it leads on and on, there
		from   string   // where the issuer is; "" = 127.0.0.3, with https
		led    bool     // it may lead there
	}{
		"another host":            {listen: "127.0.0.4", to: named, names: []string{"127.0.0.4"}, led: true},
		"another port":            {listen: "127.0.0.3", to: named, names: []string{"127.0.0.3"}, led: true},
		"http":                    {listen: "127.0.0.4", plain: true, to: plainly, names: []string{"127.0.0.4"}},
		"http of the issuer":      {listen: "127.0.0.3", plain: true, to: plainly, names: []string{"127.0.0.3"}},
		"loopback":                {listen: "127.0.0.1", to: literal("127.0.0.1")},
		"private":                 {listen: "127.0.0.5", to: literal("127.0.0.5")},
		"metadata":                {listen: "127.0.0.6", to: literal("127.0.0.6")},
		"v4 in v6":                {listen: "127.0.0.1", to: literal("[::ffff:127.0.0.1]")},
		"decimal":                 {listen: "127.0.0.1", to: literal("2130706433")},
		"hexadecimal":             {listen: "127.0.0.1", to: literal("0x7f000001")},
		"short":                   {listen: "127.0.0.1", to: literal("127.1")},
		"localhost":               {listen: "127.0.0.1", to: literal("localhost")},
		"a name of loopback":      {listen: "127.0.0.1", to: named, names: []string{"127.0.0.1"}},
		"a name of private":       {listen: "127.0.0.5", to: named, names: []string{"127.0.0.5"}},
		"a name of metadata":      {listen: "127.0.0.6", to: named, names: []string{"127.0.0.6"}},
		"two addresses":           {listen: "127.0.0.5", to: named, names: []string{"127.0.0.4 127.0.0.5"}},
		"with a password":         {listen: "127.0.0.4", to: func(port string) string { return "https://u:p@there.example.com:" + port + "/x" }, names: []string{"127.0.0.4"}},
		"a chain of 20":           {listen: "127.0.0.4", to: named, names: []string{"127.0.0.4"}, chain: true, led: true},
		"a file":                  {listen: "127.0.0.4", to: func(string) string { return "file:///etc/passwd" }},
		"inside, from inside":     {listen: "127.0.0.1", to: named, names: []string{"127.0.0.1"}, from: "127.0.0.5", led: true},
		"metadata, from inside":   {listen: "127.0.0.6", to: named, names: []string{"127.0.0.6"}, from: "127.0.0.5"},
		"plainly, from inside":    {listen: "127.0.0.1", plain: true, to: plainly, names: []string{"127.0.0.1"}, from: "127.0.0.5"},
		"a name without an entry": {listen: "127.0.0.1", to: named},
	}
	for way, w := range ways {
		for where, p := range places {
			t.Run(way+" to "+where, func(t *testing.T) {
				served := certificate
				if p.plain {
					served = nil
				}
				there := settle(t, p.listen+":0", served, func(w http.ResponseWriter, r *http.Request) {
					if p.chain {
						redirect(w, r.URL.Path+"x")
						return
					}
					_, _ = io.WriteString(w, `{"keys":[]}`)
				})
				to := p.to(there.port())
				var issuer string
				if p.from == "" {
					p.from = "127.0.0.3"
				}
				home := settle(t, p.from+":0", certificate, func(rw http.ResponseWriter, r *http.Request) {
					w.answer(rw, r.URL.Path, issuer, to)
				})
				issuer = "https://op.example.com:" + home.port()
				c := config.OIDC{Name: "op", Issuer: issuer, Audience: "weir", UsernameClaim: "sub", CA: ca}
				if w.configured {
					c.JWKSURI = issuer + keys
				}
				names := map[string][]string{"op.example.com": {p.from}}
				if p.names != nil {
					names["there.example.com"] = p.names
				}
				tokens, err := newOIDC([]config.OIDC{c}, onLoopback(names), slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				defer tokens.Close()
				token := forged(t, issuer)
				_, err = tokens.Authenticate(showing(token))
				// An issuer whose keys came says no; else nothing can be said.
				refused, _ := errors.AsType[*oidc.Refused](err)
				if came := refused != nil; came != (p.led && !p.chain && way != "redirect of the document") || !came && !errors.Is(err, authz.ErrUnavailable) {
					t.Errorf("led to %s: %v", to, err)
				}
				conns, heard := there.count()
				if (conns > 0) != p.led {
					t.Errorf("%d connections to %s", conns, to)
				}
				_, told := home.count()
				if told == "" {
					t.Error("the issuer was not asked")
				}
				for _, secret := range []string{strings.Split(token, ".")[2], "canary-signature", "Authorization", "Cookie"} {
					if strings.Contains(heard+told, secret) {
						t.Errorf("%s was sent:\n%s", secret, heard+told)
					}
				}
			})
		}
	}
}

func named(port string) string   { return "https://there.example.com:" + port + "/x" }
func plainly(port string) string { return "http://there.example.com:" + port + "/x" }
func literal(host string) func(port string) string {
	return func(port string) string { return "https://" + host + ":" + port + "/x" }
}

// A name that is public when it is first asked for, and private a moment later, leads
// to the public one alone.
func TestAnIssuerThatRebinds(t *testing.T) {
	certificate, ca := exampleCertificate(t)
	var issuer, to string
	first := settle(t, "127.0.0.4:0", certificate, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close") // so that it is looked up again
		w.Header().Set("Location", to+"again")
		w.WriteHeader(http.StatusFound)
	})
	then := settle(t, "127.0.0.5:"+first.port(), certificate, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"keys":[]}`) })
	to = named(first.port())
	home := settle(t, "127.0.0.3:0", certificate, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, issuer, to)
	})
	issuer = "https://op.example.com:" + home.port()
	tokens, err := newOIDC([]config.OIDC{{Name: "op", Issuer: issuer, Audience: "weir", CA: ca}}, onLoopback(map[string][]string{
		"op.example.com": {"127.0.0.3"}, "there.example.com": {"127.0.0.4", "127.0.0.5"},
	}), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer tokens.Close()
	if _, err := tokens.Authenticate(showing(forged(t, issuer))); !errors.Is(err, authz.ErrUnavailable) {
		t.Error(err)
	}
	if conns, _ := first.count(); conns != 1 {
		t.Errorf("%d connections to where the name led first", conns)
	}
	if conns, _ := then.count(); conns != 0 {
		t.Errorf("%d connections to where it led then", conns)
	}
}

// Whoever signs in to the pages does so at the issuer, which alone sees the client's secret,
// also where its keys are on another host: inside or outside as they are.
func TestSignInWhereKeysAreElsewhere(t *testing.T) {
	certificate, ca := exampleCertificate(t)
	for name, at := range map[string]struct{ issuer, keys string }{
		"inside":       {"127.0.0.3", "127.0.0.5"},
		"outside":      {"127.0.0.5", "127.0.0.4"},
		"another host": {"127.0.0.3", "127.0.0.4"},
	} {
		t.Run(name, func(t *testing.T) {
			op := newProvider(t)
			signs := op.Config.Handler
			keys := settle(t, at.keys+":0", certificate, signs.ServeHTTP)
			var issuer string
			home := settle(t, at.issuer+":0", certificate, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/token" {
					_, _ = fmt.Fprintf(w, `{"issuer":%q,"authorization_endpoint":%q,"token_endpoint":%q,"jwks_uri":"https://nowhere.example.com/"}`, issuer, issuer+"/auth", issuer+"/token")
					return
				}
				_, _ = fmt.Fprintf(w, `{"id_token":%q}`, op.tokenOf(t, issuer, "ann", `,"nonce":"n1"`))
			})
			issuer = "https://op.example.com:" + home.port()
			logins, err := newLogins([]config.OIDC{{
				Name: "op", Issuer: issuer, JWKSURI: "https://keys.example.com:" + keys.port() + "/keys", CA: ca, Algorithms: []config.Algorithm{"ES256"},
				ClientID: "weir", ClientSecret: config.NewSecret("canary"),
			}}, onLoopback(map[string][]string{"op.example.com": {at.issuer}, "keys.example.com": {at.keys}}), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer logins[0].Close()
			who, err := logins[0].Finish(t.Context(), "https://weir.example/cb", "c1", "n1", "v1")
			if err != nil || who.ID != "oidc:op:ann" {
				t.Errorf("signs in as %q: %v", who.ID, err)
			}
			shown := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("weir:canary"))
			if _, heard := home.count(); !strings.Contains(heard, shown) {
				t.Errorf("the issuer was not shown the secret:\n%s", heard)
			}
			if _, heard := keys.count(); heard == "" || strings.Contains(heard, "Authorization") {
				t.Errorf("where the keys are was heard:\n%s", heard)
			}
		})
	}
}

// What is wrong with a token is in the log, and nothing of the token is; an outage is
// there once.
func TestLinesOfTokens(t *testing.T) {
	down := true
	p := settle(t, "127.0.0.1:0", nil, func(w http.ResponseWriter, _ *http.Request) {
		if down {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = io.WriteString(w, `{"keys":[]}`)
	})
	var lines bytes.Buffer
	tokens, err := newOIDC([]config.OIDC{{Name: "op", Issuer: p.URL, JWKSURI: p.URL + "/jwks", Audience: "weir"}}, egress.Network{}, slog.New(slog.NewTextHandler(&lines, nil)))
	if err != nil {
		t.Fatal(err)
	}
	token := forged(t, p.URL)
	for range 3 {
		if _, err := tokens.Authenticate(showing(token)); !errors.Is(err, authz.ErrUnavailable) {
			t.Error(err)
		}
	}
	if _, err := tokens.Authenticate(showing(forged(t, "https://elsewhere"))); err != authz.ErrNone {
		t.Error(err)
	}
	expired := strings.Replace(token, strings.Split(token, ".")[1], base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"`+p.URL+`","aud":"weir","exp":1}`)), 1)
	if _, err := tokens.Authenticate(showing(expired)); !errors.Is(err, authz.ErrNone) {
		t.Error(err)
	}
	tokens.Close() // all that was begun has been said
	got := lines.String()
	for _, want := range []string{`msg="keys of a provider cannot be fetched" provider=op error="keys: answered with status 502"`, `msg="token refused" provider=op reason=expired`} {
		if strings.Count(got, want) != 1 {
			t.Errorf("%s is not there once:\n%s", want, got)
		}
	}
	for part := range strings.SplitSeq(token+"."+expired, ".") {
		if strings.Contains(got, part) {
			t.Errorf("a part of a token is in the log:\n%s", got)
		}
	}
}

// The defaults of the configuration are those of the tokens; all that may be listed is
// known; a provider that config would refuse is refused here too.
func TestProvidersOfAConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weir.yaml")
	text := "authz: {oidc: [{name: a, issuer: 'https://a.example/', audience: weir, algorithms: [" + strings.Join(oidc.Algorithms(), ", ") + "], required_claims: [hd, 'n=7']}]}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load([]string{file}, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := newOIDC(c.Authz.OIDC, egress.Network{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	tokens.Close()
	none, err := newOIDC(nil, egress.Network{}, nil)
	if none != nil || err != nil {
		t.Errorf("without providers: %v, %v", none, err)
	}
	for name, bad := range map[string]config.OIDC{
		"no audience": {Name: "a", Issuer: "https://a.example"},
		"no ca":       {Name: "a", Issuer: "https://a.example", Audience: "weir", CA: "nowhere.pem"},
		"a claim":     {Name: "a", Issuer: "https://a.example", Audience: "weir", RequiredClaims: []string{"=x"}},
	} {
		if _, err := newOIDC([]config.OIDC{bad}, egress.Network{}, nil); err == nil || !strings.HasPrefix(err.Error(), "authz.oidc: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
