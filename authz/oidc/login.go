package oidc

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weir-registry/weir/authz"
)

// largestAnswer is the largest answer of a token endpoint, in bytes.
const largestAnswer = 256 << 10

// Client is what a provider knows us by, who let people sign in there.
type Client struct {
	ID string
	// Secret gives what it is shown as well; nil, or "": nothing, as a public client.
	Secret func() (string, error)
	// Scopes are asked for besides openid.
	Scopes []string
	// Transport is the way to the issuer, which need not be where its keys are; nil: as to those.
	Transport http.RoundTripper
}

// Login signs people in with a provider: by the code flow (OpenID Connect Core 1.0, 3.1)
// with PKCE (RFC 7636). It is safe for concurrent use.
type Login struct {
	client Client
	issuer *issuer
	http   *http.Client

	mu        sync.Mutex
	source    *source // is used by one at a time
	endpoints endpoints
	failure   error // of the last attempt to find them; nil: none failed
	failed    time.Time
}

// endpoints are where a provider signs people in.
type endpoints struct {
	authorization, token string
	at                   time.Time
}

// NewLogin makes a Login. ID tokens are for the client, whatever p.Audience. It asks nobody
// yet. outage is told when its keys cannot be fetched, and with nil when they can again;
// nil: nobody is. Errors: the provider is incomplete.
func NewLogin(p Provider, c Client, outage func(error)) (*Login, error) {
	p.Audience = c.ID
	p, err := p.complete()
	if err != nil {
		return nil, fmt.Errorf("provider %q: %w", p.Name, err)
	}
	if outage == nil {
		outage = func(error) {}
	}
	keys := newIssuer(p, outage)
	if c.Transport != nil {
		p.Transport = c.Transport
	}
	return &Login{
		client: c, issuer: keys, source: newSource(p),
		http: &http.Client{Transport: p.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

// Name is the provider's.
func (l *Login) Name() string { return l.issuer.Name }

// Issuer is the provider's: its identifier, a URL.
func (l *Login) Issuer() string { return l.issuer.Issuer }

// Close ends what is being fetched.
func (l *Login) Close() { l.issuer.keys.close() }

// find gives where the provider signs people in. Whoever asks while it cannot be found out
// makes nobody ask the provider more than once a second. Errors: authz.ErrUnavailable.
func (l *Login) find(ctx context.Context) (endpoints, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.endpoints.token != "" && time.Since(l.endpoints.at) < day {
		return l.endpoints, nil
	}
	if l.failure != nil && time.Since(l.failed) < again {
		return endpoints{}, l.failure
	}
	e := endpoints{at: time.Now()}
	document, err := l.source.document(ctx)
	if err == nil {
		e.authorization, err = l.source.place(document, "authorization_endpoint")
	}
	if err == nil {
		e.token, err = l.source.place(document, "token_endpoint")
	}
	if err != nil {
		err = fmt.Errorf("%w: provider %s: discovery: %w", authz.ErrUnavailable, l.issuer.Name, err)
		if ctx.Err() == nil { // else it is whoever asked that has gone
			l.failure, l.failed = err, time.Now()
		}
		return endpoints{}, err
	}
	l.endpoints, l.failure = e, nil
	return e, nil
}

// Begin gives where a browser goes to sign in, and comes back from to redirect with state
// and a code. verifier is a secret of the one who will have the code. Errors:
// authz.ErrUnavailable.
func (l *Login) Begin(ctx context.Context, redirect, state, nonce, verifier string) (string, error) {
	e, err := l.find(ctx)
	if err != nil {
		return "", err
	}
	to, err := url.Parse(e.authorization)
	if err != nil {
		return "", fmt.Errorf("%w: provider %s: its authorization_endpoint is no URL", authz.ErrUnavailable, l.issuer.Name)
	}
	challenge := sha256.Sum256([]byte(verifier))
	q := to.Query()
	for name, value := range map[string]string{
		"response_type": "code", "client_id": l.client.ID, "redirect_uri": redirect,
		"scope": strings.Join(l.scopes(), " "), "state": state, "nonce": nonce,
		"code_challenge": base64.RawURLEncoding.EncodeToString(challenge[:]), "code_challenge_method": "S256",
	} {
		q.Set(name, value)
	}
	to.RawQuery = q.Encode()
	return to.String(), nil
}

func (l *Login) scopes() []string {
	if slices.Contains(l.client.Scopes, "openid") {
		return l.client.Scopes
	}
	return append([]string{"openid"}, l.client.Scopes...)
}

// Finish buys an ID token for the code, and says whom it is of. Errors: authz.ErrRejected,
// authz.ErrUnavailable.
func (l *Login) Finish(ctx context.Context, redirect, code, nonce, verifier string) (authz.Identity, error) {
	refused := func(err error) (authz.Identity, error) {
		return authz.Identity{}, fmt.Errorf("%w: %w", authz.ErrRejected, &Refused{l.issuer.Name, err})
	}
	text, err := l.exchange(ctx, redirect, code, verifier)
	if err != nil {
		if errors.Is(err, authz.ErrUnavailable) {
			return authz.Identity{}, fmt.Errorf("provider %s: %w", l.issuer.Name, err)
		}
		return refused(err)
	}
	if !shaped(text) {
		return refused(errMalformed)
	}
	t, err := parse(text)
	if err != nil {
		return refused(err)
	}
	if t.issuer != l.issuer.Issuer {
		return refused(errors.New("another issuer's"))
	}
	said, _ := t.claims["nonce"].(string)
	if nonce == "" || subtle.ConstantTimeCompare([]byte(said), []byte(nonce)) == 0 {
		return refused(errors.New("it answers another question: its nonce is not ours"))
	}
	v, err := l.issuer.verify(ctx, t)
	switch {
	case errors.Is(err, authz.ErrUnavailable):
		return authz.Identity{}, fmt.Errorf("provider %s: %w", l.issuer.Name, err)
	case err != nil:
		return refused(err)
	}
	return v.who, nil
}

// exchange gives the ID token that a code is good for (OpenID Connect Core 1.0, 3.1.3).
// Errors: authz.ErrUnavailable; why there is none, which holds no secret.
func (l *Login) exchange(ctx context.Context, redirect, code, verifier string) (string, error) {
	e, err := l.find(ctx)
	if err != nil {
		return "", err
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirect}, "code_verifier": {verifier}}
	secret := ""
	if l.client.Secret != nil {
		if secret, err = l.client.Secret(); err != nil {
			return "", fmt.Errorf("%w: client_secret: %w", authz.ErrUnavailable, err)
		}
	}
	// A token endpoint elsewhere than the issuer gets no Authorization header: the way to it
	// carries none to another host.
	inHeader := secret != "" && sameHost(e.token, l.issuer.Issuer)
	if !inHeader {
		form.Set("client_id", l.client.ID)
		if secret != "" {
			form.Set("client_secret", secret)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.token, strings.NewReader(form.Encode()))
	if err != nil {
		return "", fmt.Errorf("%w: its token_endpoint is no URL", authz.ErrUnavailable)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	if inHeader {
		req.SetBasicAuth(url.QueryEscape(l.client.ID), url.QueryEscape(secret))
	}
	resp, err := l.http.Do(req)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err
		}
		return "", fmt.Errorf("%w: token endpoint: %w", authz.ErrUnavailable, err)
	}
	defer func() { _ = resp.Body.Close() }() // what counts was read
	body, err := io.ReadAll(io.LimitReader(resp.Body, largestAnswer+1))
	if err != nil {
		return "", fmt.Errorf("%w: token endpoint: %w", authz.ErrUnavailable, err)
	}
	answer, malformed := object(body)
	switch said, _ := answer["error"].(string); {
	case resp.StatusCode >= http.StatusInternalServerError:
		return "", fmt.Errorf("%w: token endpoint: status %d", authz.ErrUnavailable, resp.StatusCode)
	case resp.StatusCode != http.StatusOK:
		return "", fmt.Errorf("the code buys no token: status %d, %.100q", resp.StatusCode, said)
	case malformed != nil:
		return "", errors.New("the answer of the token endpoint is no JSON object")
	}
	text, _ := answer["id_token"].(string)
	return text, nil
}

func sameHost(a, b string) bool {
	u, err := url.Parse(a)
	v, otherErr := url.Parse(b)
	return err == nil && otherErr == nil && u.Scheme == v.Scheme && u.Host == v.Host
}
