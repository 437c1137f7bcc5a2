package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/policy"
	"github.com/weir-registry/weir/authz/webhook"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin/remote/egress"
)

// policyOf is the policy of a configuration, with its webhooks.
func policyOf(t *testing.T, text string, log io.Writer, asked func(string, webhook.Result, time.Duration)) *policy.Policy {
	t.Helper()
	file := filepath.Join(t.TempDir(), "weir.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load([]string{file}, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(log, nil))
	hooks, err := newWebhooks(c.Authz.Webhooks, egress.Network{}, logger, asked)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hooks.close)
	p, err := newPolicy(c, private(c.Server), hooks, logger, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestWebhookIsShownWhoAsks: a bearer token, a password, a certificate, each from the
// configuration or a file; and what the other side shows is believed with its ca alone.
func TestWebhookIsShownWhoAsks(t *testing.T) {
	certificate, key := selfSigned(t)
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(certificate)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown := r.Header.Get("Authorization")
		if len(r.TLS.PeerCertificates) > 0 {
			if _, err := r.TLS.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: clients, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
				shown = "certificate"
			}
		}
		if shown != r.URL.Path[1:] {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := write("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	pair := fmt.Sprintf("certificate: %s, key: %s", write("cert.pem", certificate), write("key.pem", key))
	userURL := strings.Replace(server.URL, "https://", "https://u:p%40ss@", 1)

	for _, test := range []struct{ name, hook, want string }{
		{"bearer", "url: '" + server.URL + "/Bearer t0ken', ca: " + ca + ", bearer_token: t0ken", "allow"},
		{"bearer in a file", "url: '" + server.URL + "/Bearer t0ken', ca: " + ca + ", bearer_token_file: " + write("token", []byte("t0ken\n")), "allow"},
		{"another bearer", "url: '" + server.URL + "/Bearer t0ken', ca: " + ca + ", bearer_token: other", "deny"},
		{"basic", "url: '" + server.URL + "/Basic dTpwQHNz', ca: " + ca + ", username: u, password: p@ss", "allow"},
		{"basic in the URL", "url: '" + userURL + "/Basic dTpwQHNz', ca: " + ca, "allow"},
		{"a certificate", "url: '" + server.URL + "/certificate', ca: " + ca + ", " + pair, "allow"},
		{"no certificate", "url: '" + server.URL + "/certificate', ca: " + ca, "deny"},
		{"nothing", "url: '" + server.URL + "/', ca: " + ca, "allow"},
		{"an authority that nobody believes", "url: '" + server.URL + "/'", "fault"},
	} {
		p := policyOf(t, "authz: {webhooks: [{name: opa, "+test.hook+"}], webhook: opa}", io.Discard, nil)
		d := p.Decide(t.Context(), authz.Identity{}, authz.Access{Action: authz.Pull, Repository: "team/app"})
		got := "deny"
		switch {
		case d.Allowed:
			got = "allow"
		case d.Cause != nil:
			got = "fault"
		}
		if got != test.want {
			t.Errorf("%s: %s (%v), want %s", test.name, got, d.Cause, test.want)
		}
		if d.Cause != nil && (strings.Contains(d.Cause.Error(), "p@ss") || strings.Contains(d.Cause.Error(), "p%40ss")) {
			t.Errorf("%s: the password is told: %v", test.name, d.Cause)
		}
	}
}

// TestWebhookGoesNowhereElse: a redirect is no answer and is not followed, wherever it
// leads, and nobody there hears the token.
func TestWebhookGoesNowhereElse(t *testing.T) {
	var elsewhere, results atomic.Int32
	canary := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	t.Cleanup(canary.Close)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, canary.URL, http.StatusTemporaryRedirect)
	}))
	t.Cleanup(server.Close)
	p := policyOf(t, "authz: {webhooks: [{name: opa, url: '"+server.URL+"', bearer_token: t0ken}], webhook: opa}", io.Discard,
		func(name string, r webhook.Result, _ time.Duration) {
			if name == "opa" && r == webhook.Failed {
				results.Add(1)
			}
		})
	for range 2 {
		d := p.Decide(t.Context(), authz.Identity{}, authz.Access{Action: authz.Pull, Repository: "team/app"})
		if d.Allowed || d.Cause == nil || d.By != "webhook opa" {
			t.Errorf("a redirect is taken: %+v", d)
		}
	}
	if elsewhere.Load() != 0 || results.Load() != 2 {
		t.Errorf("%d requests elsewhere, %d told of", elsewhere.Load(), results.Load())
	}
}

// TestPolicyOfAConfiguration: patterns of repositories match as they do elsewhere.
func TestPolicyOfAConfiguration(t *testing.T) {
	p := policyOf(t, `
authz: {policy: {default: allow}}
repositories:
  - {match: "team/**", policy: {default: deny}}
  - {match: "team/*/open", policy: {default: allow}}
  - {match: "team/app", policy: {default: allow}}
  - {match: "docker.io/library/*", policy: {deny: ["request.tag == 'latest'"]}}
`, io.Discard, nil)
	for what, want := range map[authz.Access]bool{
		{Action: authz.Pull, Repository: "team"}:                                   true,
		{Action: authz.Pull, Repository: "team/x"}:                                 false,
		{Action: authz.Pull, Repository: "team/x/y"}:                               false,
		{Action: authz.Pull, Repository: "team/app"}:                               true,
		{Action: authz.Pull, Repository: "team/app/x"}:                             false,
		{Action: authz.Pull, Repository: "team/x/open"}:                            true,
		{Action: authz.Pull, Repository: "docker.io/library/nginx", Tag: "1"}:      true,
		{Action: authz.Pull, Repository: "docker.io/library/nginx", Tag: "latest"}: false,
		{Action: authz.Pull, Repository: "docker.io/org/nginx", Tag: "latest"}:     true,
		{Action: authz.List}: true,
	} {
		if d := p.Decide(t.Context(), authz.Identity{}, what); d.Allowed != want {
			t.Errorf("%s:%s: %+v", what.Repository, what.Tag, d)
		}
	}
}
