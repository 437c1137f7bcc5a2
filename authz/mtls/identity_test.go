package mtls_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/mtls"
	"github.com/weir-registry/weir/authz/mtls/mtlstest"
)

// What is read from a certificate.
func TestIdentity(t *testing.T) {
	s := newScene(t, false)
	uri := func(list ...string) (parsed []*url.URL) {
		for _, u := range list {
			p, err := url.Parse(u)
			if err != nil {
				t.Fatal(err)
			}
			parsed = append(parsed, p)
		}
		return parsed
	}
	const workload = "spiffe://corp/ns/team/sa/ci"
	for name, x := range map[string]struct {
		change func(c *x509.Certificate)
		want   authz.Identity
	}{
		"common name": {func(c *x509.Certificate) {}, authz.Identity{
			ID: "mtls:CN=clients:CN=ann", Username: "ann", Certificate: &authz.Certificate{CommonName: "ann"},
		}},
		"everything": {func(c *x509.Certificate) {
			c.Subject = pkix.Name{CommonName: "system:node:n1", Organization: []string{"b", "system:nodes"}}
			c.DNSNames, c.URIs = []string{"n1.corp", "n1"}, uri(workload, "https://n1.corp/")
		}, authz.Identity{
			ID: "mtls:CN=clients:CN=system:node:n1,O=b+O=system:nodes", Username: "system:node:n1",
			Certificate: &authz.Certificate{
				CommonName: "system:node:n1", Organizations: []string{"b", "system:nodes"},
				DNSNames: []string{"n1.corp", "n1"}, URIs: []string{workload, "https://n1.corp/"},
			},
		}},
		"SPIFFE ID, no subject": {func(c *x509.Certificate) {
			c.Subject, c.URIs = pkix.Name{}, uri(workload)
		}, authz.Identity{
			ID: "mtls:CN=clients:" + workload, Username: workload, Certificate: &authz.Certificate{URIs: []string{workload}},
		}},
		"SPIFFE ID, a subject that all workloads have": {func(c *x509.Certificate) {
			c.Subject, c.URIs = pkix.Name{Country: []string{"US"}, Organization: []string{"SPIRE"}}, uri("https://x/", workload)
		}, authz.Identity{
			ID: "mtls:CN=clients:" + workload, Username: workload,
			Certificate: &authz.Certificate{Organizations: []string{"SPIRE"}, URIs: []string{"https://x/", workload}},
		}},
		"no common name": {func(c *x509.Certificate) {
			c.Subject, c.URIs = pkix.Name{Organization: []string{"Corp"}}, uri("https://x/")
		}, authz.Identity{
			ID: "mtls:CN=clients:O=Corp", Certificate: &authz.Certificate{Organizations: []string{"Corp"}, URIs: []string{"https://x/"}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			template := mtlstest.Client("ann")
			x.change(template)
			r := requestOf(s.clients.Issue(t, template), s.clients.Pair)
			got, err := s.server.Authenticate(r)
			if err != nil {
				t.Fatal(err)
			}
			if c, want := got.Certificate, x.want.Certificate; c.CommonName != want.CommonName ||
				!slices.Equal(c.Organizations, want.Organizations) || !slices.Equal(c.DNSNames, want.DNSNames) || !slices.Equal(c.URIs, want.URIs) {
				t.Errorf("certificate %+v, want %+v", c, want)
			}
			if got.ID != x.want.ID || got.Username != x.want.Username || got.Method != authz.MethodMTLS || got.Scope != nil {
				t.Errorf("got %+v, want %+v", got, x.want)
			}
		})
	}
}

// requestOf is a request whose certificate was verified by an authority.
func requestOf(leaf, authority mtlstest.Pair) *http.Request {
	r := httptest.NewRequestWithContext(context.Background(), "GET", "/v2/", nil)
	r.TLS = &tls.ConnectionState{
		PeerCertificates: []*x509.Certificate{leaf.Leaf},
		VerifiedChains:   [][]*x509.Certificate{{leaf.Leaf, authority.Leaf}},
	}
	return r
}

// Only what was verified counts: not what was merely shown, nor what was verified by
// somebody else, nor what a header says.
func TestUnverified(t *testing.T) {
	s := newScene(t, false)
	ann := s.clients.Issue(t, mtlstest.Client("ann"))
	r := requestOf(ann, s.clients.Pair)
	r.TLS.VerifiedChains = nil
	if who, err := s.server.Authenticate(r); !errors.Is(err, authz.ErrRejected) {
		t.Errorf("not verified: %+v, %v", who, err)
	}
	if who, err := s.server.Authenticate(requestOf(ann, s.servers.Pair)); !errors.Is(err, authz.ErrRejected) {
		t.Errorf("of another: %+v, %v", who, err)
	}
	r.TLS = nil
	r.Header.Set("X-Client-Cert", string(ann.CertificatePEM()))
	r.Header.Set("X-Forwarded-Client-Cert", `Subject="CN=ann"`)
	if who, err := s.server.Authenticate(r); !errors.Is(err, authz.ErrNone) {
		t.Errorf("plain: %+v, %v", who, err)
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	files := mtlstest.NewFiles(b)
	ca := mtlstest.NewAuthority(b, "ca")
	files.PutPair(b, ca.Issue(b, mtlstest.Server()))
	mtlstest.Put(b, files.ClientCA, ca.CertificatePEM())
	s, err := mtls.Open(mtls.Options{Certificate: files.Certificate, Key: files.Key, ClientCA: files.ClientCA})
	if err != nil {
		b.Fatal(err)
	}
	r := requestOf(ca.Issue(b, mtlstest.Client("ann")), ca.Pair)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Authenticate(r); err != nil {
			b.Fatal(err)
		}
	}
}

// Once certificates are required, who connected before without one is refused.
func TestRequiredLater(t *testing.T) {
	s := newScene(t, true)
	r := httptest.NewRequestWithContext(context.Background(), "GET", "/v2/", nil)
	r.TLS = &tls.ConnectionState{}
	if who, err := s.server.Authenticate(r); !errors.Is(err, authz.ErrRejected) {
		t.Errorf("%+v, %v", who, err)
	}
}
