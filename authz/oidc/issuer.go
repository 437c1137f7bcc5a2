package oidc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	coreos "github.com/coreos/go-oidc/v3/oidc"
)

// issuer is a provider and its keys.
type issuer struct {
	Provider
	config *coreos.Config
	keys   *keys
}

func newIssuer(p Provider, outage func(error)) *issuer {
	return &issuer{
		Provider: p,
		config: &coreos.Config{
			ClientID:             p.Audience,
			SupportedSigningAlgs: p.Algorithms,
			SkipExpiryCheck:      true, // it knows no leeway; accepts has checked it
		},
		keys: newKeys(newSource(p).fetch, outage),
	}
}

// verify decides on a token that names this issuer. What costs least comes first: a
// token that would not count whoever signed it makes nobody fetch keys.
// Errors: authz.ErrUnavailable; the reason why it does not count.
func (i *issuer) verify(ctx context.Context, t *token) (verified, error) {
	now := time.Now()
	kid, alg, err := t.signer()
	if err != nil {
		return verified{}, err
	}
	if !slices.Contains(i.Algorithms, alg) {
		return verified{}, errors.New("signed with an algorithm that is not listed")
	}
	expires, err := i.accepts(t.claims, now)
	if err != nil {
		return verified{}, err
	}
	who, err := i.identity(t.claims)
	if err != nil {
		return verified{}, err
	}
	keys, set, err := i.keys.find(ctx, kid, alg)
	if err != nil {
		return verified{}, err
	}
	signed, err := coreos.NewVerifier(i.Issuer, &coreos.StaticKeySet{PublicKeys: keys}, i.config).Verify(ctx, t.text)
	if err != nil {
		return verified{}, errors.New("the signature is not by that key, or the claims are ambiguous")
	}
	// What was decided on is what is signed.
	var payload json.RawMessage
	if err := signed.Claims(&payload); err != nil || !bytes.Equal(bytes.TrimSpace(payload), bytes.TrimSpace(t.payload)) {
		return verified{}, errors.New("the claims cannot be read in one way")
	}
	who.OIDC = who.OIDC.Summed() // many requests come with the same token
	until := now.Add(trusted)
	if expires.Before(until) {
		until = expires
	}
	return verified{who: who, keys: i.keys, set: set, until: until}, nil
}
