package remote

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/store"
)

func TestCertificateIsForTheEndpointAlone(t *testing.T) {
	certificates := map[string]int{}
	secure := func(name string, h http.HandlerFunc) *httptest.Server {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			certificates[name] = len(r.TLS.PeerCertificates)
			h(w, r)
		}))
		s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
	cdn := secure("cdn", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "blob") })
	endpoint := secure("endpoint", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			http.Redirect(w, r, cdn.URL, http.StatusTemporaryRedirect)
		}
	})
	at, err := url.Parse(endpoint.URL)
	if err != nil {
		t.Fatal(err)
	}
	ca := x509.NewCertPool()
	ca.AddCert(endpoint.Certificate())
	r, err := New(Options{URL: at, Trust: egress.Always(&egress.Trust{CA: ca, Certificate: &endpoint.TLS.Certificates[0]})})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := r.Blob(t.Context(), parsed(t, "x"), timeBlob, store.Range{})
	if err != nil {
		t.Fatal(err)
	}
	b.Body.Close()
	if certificates["endpoint"] != 1 || certificates["cdn"] != 0 {
		t.Errorf("shown: %v", certificates)
	}
}

func TestRedirectsAreCounted(t *testing.T) {
	for chain, ok := range map[int]bool{0: true, 1: true, 10: true, 11: false, 20: false} {
		asked := 0
		r := without(t, func(req *http.Request) (*http.Response, error) {
			switch asked++; {
			case req.URL.Path == "/v2/":
				asked = 0
				return reply(req, http.StatusOK, http.NoBody), nil
			case asked <= chain:
				return reply(req, http.StatusFound, http.NoBody, "Location", fmt.Sprintf("https://cdn.example/%d", asked)), nil
			}
			return reply(req, http.StatusOK, http.NoBody), nil
		})
		_, err := r.Stat(t.Context(), parsed(t, "x"), timeBlob)
		if (err == nil) != ok || asked != min(chain, 10)+1 {
			t.Errorf("%d redirects: %d requests, %v", chain, asked, err)
		}
	}
}
