package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/oidc"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin/remote/egress"
)

// tokens is who asks by a token of a provider. Why one is refused is for the log
// alone.
type tokens struct {
	*oidc.Authenticator
	clients []*egress.Client
	log     *slog.Logger
}

// newOIDC makes what verifies the tokens of the providers of a configuration; nil if
// there are none. It asks nobody: weir starts while every provider is down.
func newOIDC(list []config.OIDC, network egress.Network, log *slog.Logger) (*tokens, error) {
	if len(list) == 0 {
		return nil, nil
	}
	t := &tokens{log: log}
	var providers []oidc.Provider
	for _, c := range list {
		client, err := wayTo(whereKeysAre(c), c, network, log)
		if err != nil {
			return nil, fmt.Errorf("authz.oidc: %s: %w", c.Name, err)
		}
		t.clients = append(t.clients, client)
		p, err := providerOf(c, client)
		if err != nil {
			return nil, err
		}
		providers = append(providers, p)
	}
	var err error
	t.Authenticator, err = oidc.New(providers, func(provider string, err error) {
		if err != nil {
			log.Warn("keys of a provider cannot be fetched", "provider", provider, "error", err)
			return
		}
		log.Info("keys of a provider can be fetched again", "provider", provider)
	})
	if err != nil {
		return nil, fmt.Errorf("authz.oidc: %w", err)
	}
	return t, nil
}

// providerOf is a provider of a configuration; client is the way to its keys.
func providerOf(c config.OIDC, client *egress.Client) (oidc.Provider, error) {
	p := oidc.Provider{
		Name: c.Name, Issuer: c.Issuer, Audience: c.Audience,
		UsernameClaim: c.UsernameClaim, GroupsClaim: c.GroupsClaim,
		JWKSURI: c.JWKSURI, Leeway: c.Leeway.Std(), Transport: client,
	}
	for _, alg := range c.Algorithms {
		p.Algorithms = append(p.Algorithms, string(alg))
	}
	for _, required := range c.RequiredClaims {
		claim, err := oidc.ParseClaim(required)
		if err != nil {
			return p, fmt.Errorf("authz.oidc: %s: %w", c.Name, err)
		}
		p.RequiredClaims = append(p.RequiredClaims, claim)
	}
	return p, nil
}

// whereKeysAre is where the keys of a provider are: at its issuer, which says where, or where the
// operator says.
func whereKeysAre(c config.OIDC) string { return cmp.Or(c.JWKSURI, c.Issuer) }

// wayTo is the way to one of the URLs of a provider.
func wayTo(at string, c config.OIDC, network egress.Network, log *slog.Logger) (*egress.Client, error) {
	u, err := url.Parse(at)
	if err != nil {
		return nil, errors.New("not a URL") // config has looked at it
	}
	files, err := egress.OpenFiles(c.CA, "", "", func(err error) {
		log.Warn("changed files not taken up", "provider", c.Name, "error", err)
	})
	if err != nil {
		return nil, err
	}
	return egress.New(egress.Options{URL: u, Trust: files.Trust, UserAgent: "weir/" + version, Network: network}), nil
}

// Authenticate implements [authz.Authenticator], as [oidc.Authenticator] does.
func (t *tokens) Authenticate(r *http.Request) (authz.Identity, error) {
	who, err := t.Authenticator.Authenticate(r)
	if refused, ok := errors.AsType[*oidc.Refused](err); ok {
		t.log.Info("token refused", "provider", refused.Provider, "reason", refused.Cause.Error())
	}
	return who, err
}

// Close ends what is being fetched.
func (t *tokens) Close() {
	t.Authenticator.Close()
	for _, c := range t.clients {
		c.Close()
	}
}
