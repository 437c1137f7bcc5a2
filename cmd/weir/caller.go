package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin/remote/docker"
	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/remote/login"
)

// serverFlags say which running weir a command asks.
type serverFlags struct{ url, ca string }

// caUsage is what is said of --ca.
const caUsage = "believe the authorities in `FILE` (PEM) besides the system's"

func (f *serverFlags) add(cmd *cobra.Command, does string) {
	cmd.Flags().StringVar(&f.url, "server", "http://127.0.0.1:5000", does+" the weir at `URL`")
	cmd.Flags().StringVar(&f.ca, "ca", "", caUsage)
}

// base gives where that weir is.
func (f *serverFlags) base(cmd *cobra.Command) (*url.URL, error) {
	var base config.URL
	if err := base.UnmarshalText([]byte(f.url)); err != nil {
		return nil, misused(cmd, "--server: %w", err)
	}
	if base.IsZero() {
		return nil, misused(cmd, "--server is empty")
	}
	return &base.URL, nil
}

// trust gives whom it may show the certificate of.
func (f *serverFlags) trust() (*egress.Trust, error) {
	t := &egress.Trust{}
	if f.ca == "" {
		return t, nil
	}
	text, err := os.ReadFile(f.ca)
	if err != nil {
		return nil, err
	}
	if t.CA, err = x509.SystemCertPool(); err != nil {
		return nil, err
	}
	if !t.CA.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no certificate in it", f.ca)
	}
	return t, nil
}

// open gives where that weir is, and the way to it.
func (f *serverFlags) open(cmd *cobra.Command, header time.Duration, connections int) (*url.URL, *http.Client, error) {
	base, err := f.base(cmd)
	if err != nil {
		return nil, nil, err
	}
	trust, err := f.trust()
	if err != nil {
		return nil, nil, err
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ResponseHeaderTimeout = header
	t.MaxIdleConnsPerHost = connections
	t.DisableCompression = true // lengths and digests are those of what is sent
	if trust.CA != nil {
		t.TLSClientConfig = &tls.Config{RootCAs: trust.CA, MinVersion: tls.VersionTLS12}
	}
	c := &caller{base: base, next: t, logins: docker.New(base.Host), tokens: map[string]bearer{}}
	return base, &http.Client{Transport: c}, nil
}

// caller asks a weir as whoever Docker's configuration has for its host; as nobody, if
// it has nobody. Where a request is redirected to is told nothing.
type caller struct {
	base   *url.URL
	next   http.RoundTripper
	logins login.Provider

	mu     sync.Mutex
	tokens map[string]bearer // by scope
}

// bearer is a token, and when to have another.
type bearer struct {
	token egress.Secret
	until time.Time
}

// RoundTrip implements http.RoundTripper.
func (c *caller) RoundTrip(r *http.Request) (*http.Response, error) {
	if !egress.SameOrigin(r.URL, c.base) {
		return c.next.RoundTrip(r)
	}
	authorization, failed := c.authorization(r.Context(), scopeOf(r.URL))
	if authorization != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", authorization)
	}
	res, err := c.next.RoundTrip(r)
	if err == nil && failed != nil && res.StatusCode == http.StatusUnauthorized {
		_ = res.Body.Close() // it is not what was wrong
		return nil, fmt.Errorf("not logged in: %w", failed)
	}
	return res, err
}

// authorization is the header that a request is shown with; "": none.
func (c *caller) authorization(ctx context.Context, scope string) (string, error) {
	l, err := c.logins.Login(ctx)
	switch {
	case err != nil:
		return "", err
	case l.Identity != (egress.Secret{}):
		token, err := c.token(ctx, scope, l.Identity)
		if err != nil {
			return "", err
		}
		return "Bearer " + token.Reveal(), nil
	case l.Username == "" && l.Password == (egress.Secret{}):
		return "", nil
	}
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(l.Username, l.Password.Reveal())
	return r.Header.Get("Authorization"), nil
}

// token gets one for a refresh token, which is what docker login keeps of a password
// (distribution's token specification, "Oauth2 Token Authentication").
func (c *caller) token(ctx context.Context, scope string, refresh egress.Secret) (egress.Secret, error) {
	c.mu.Lock()
	defer c.mu.Unlock() // many want the same one
	if kept, ok := c.tokens[scope]; ok && time.Now().Before(kept.until) {
		return kept.token, nil
	}
	form := url.Values{"grant_type": {"refresh_token"}, "client_id": {"weir"}, "refresh_token": {refresh.Reveal()}, "scope": {scope}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base.JoinPath(tokenPath).String(), strings.NewReader(form.Encode()))
	if err != nil {
		return egress.Secret{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	asked := time.Now()
	res, err := c.next.RoundTrip(req)
	if err != nil {
		return egress.Secret{}, err
	}
	defer func() { _ = res.Body.Close() }() // what counts was read
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return egress.Secret{}, err
	}
	if res.StatusCode != http.StatusOK {
		return egress.Secret{}, fmt.Errorf("the identity token of Docker's configuration: %s", refusal(res.Status, body))
	}
	var said struct {
		Token   string `json:"token"`
		Expires int64  `json:"expires_in"` // seconds
	}
	if err := json.Unmarshal(body, &said); err != nil || said.Token == "" {
		return egress.Secret{}, errors.New("no token in the answer of " + tokenPath)
	}
	kept := bearer{egress.Conceal(said.Token), asked.Add(time.Duration(said.Expires) * time.Second / 2)}
	c.tokens[scope] = kept
	return kept.token, nil
}

// scopeOf is the scope of a token for a request: a name leads where it leads without one.
func scopeOf(u *url.URL) string {
	name, ok := strings.CutPrefix(u.Path, "/v2/")
	if !ok || strings.HasPrefix(name, "_") {
		return "registry:catalog:*"
	}
	for _, kind := range []string{"/manifests/", "/blobs/"} {
		if i := strings.LastIndex(name, kind); i >= 0 {
			name = name[:i]
			break
		}
	}
	if ns := u.Query().Get("ns"); ns != "" {
		name = config.PathOf(ns) + "/" + name
	}
	return "repository:" + name + ":pull"
}
