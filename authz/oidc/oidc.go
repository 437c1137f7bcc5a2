package oidc

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	coreos "github.com/coreos/go-oidc/v3/oidc"

	"github.com/weir-registry/weir/authz"
)

// Provider is an issuer whose tokens count.
type Provider struct {
	// Name is what identities of it begin with: "oidc:NAME:". No colon.
	Name string
	// Issuer is its URL, exactly as it writes it into its tokens.
	Issuer string
	// Audience must be one of those that a token is for.
	Audience string
	// Algorithms are those that a token may be signed with; nil = RS256.
	Algorithms []string
	// UsernameClaim is the claim that users are called by; "" = sub.
	UsernameClaim string
	// GroupsClaim is the claim that lists their groups; "" = there are none.
	GroupsClaim string
	// RequiredClaims are claims that a token must have.
	RequiredClaims []Claim
	// JWKSURI is where its keys are; "" = where its discovery document says.
	JWKSURI string
	// Leeway is how far its clock may be off this one.
	Leeway time.Duration
	// Transport is the way to its keys. It decides where the issuer may lead.
	Transport http.RoundTripper
}

// Claim is a claim that must be there.
type Claim struct {
	Name string
	// Value is what it must be, or have among its elements; "" = anything but null.
	Value string
}

// ParseClaim parses "name" or "name=value". Errors: there is no name.
func ParseClaim(s string) (Claim, error) {
	name, value, valued := strings.Cut(s, "=")
	if name == "" || valued && value == "" {
		return Claim{}, errors.New("no claim: write name or name=value")
	}
	return Claim{name, value}, nil
}

// Algorithms are those that tokens may be signed with: public keys verify them. One
// with a shared secret (HS256) or none is not among them.
func Algorithms() []string {
	return []string{
		coreos.RS256, coreos.RS384, coreos.RS512, coreos.PS256, coreos.PS384, coreos.PS512,
		coreos.ES256, coreos.ES384, coreos.ES512, coreos.EdDSA,
	}
}

// Refused says why a token of a provider is not accepted. It is an [authz.ErrNone]:
// a method that comes later may accept it; where none does, the chain rejects it.
type Refused struct {
	Provider string // its name
	Cause    error  // for the operator; it may quote the token's claims, never the token
}

// Error names the provider and the cause.
func (r *Refused) Error() string { return "token of " + r.Provider + ": " + r.Cause.Error() }

// Unwrap gives authz.ErrNone and the cause.
func (r *Refused) Unwrap() []error { return []error{authz.ErrNone, r.Cause} }

// Authenticator verifies tokens. It is safe for concurrent use.
type Authenticator struct {
	issuers map[string]*issuer // by Provider.Issuer
	known   *known
}

var _ authz.Authenticator = (*Authenticator)(nil)

// New makes an Authenticator. It asks nobody yet. outage, unless it is nil, is told
// when the keys of a provider cannot be fetched (once, until they can again), and with
// a nil error when they can again; from many goroutines. Errors: a provider is
// incomplete, or not the only one of its name or issuer.
func New(providers []Provider, outage func(provider string, err error)) (*Authenticator, error) {
	a := &Authenticator{issuers: map[string]*issuer{}, known: newKnown()}
	names := map[string]bool{}
	for _, p := range providers {
		p, err := p.complete()
		if err != nil {
			return nil, fmt.Errorf("provider %q: %w", p.Name, err)
		}
		if names[p.Name] || a.issuers[p.Issuer] != nil {
			return nil, fmt.Errorf("provider %q: another one has its name or its issuer", p.Name)
		}
		names[p.Name] = true
		told := func(error) {}
		if outage != nil {
			told = func(err error) { outage(p.Name, err) }
		}
		a.issuers[p.Issuer] = newIssuer(p, told)
	}
	return a, nil
}

// complete fills in what is not said. Errors: what must be.
func (p Provider) complete() (Provider, error) {
	p.Algorithms = slices.Clone(p.Algorithms)
	if len(p.Algorithms) == 0 {
		p.Algorithms = []string{coreos.RS256}
	}
	p.UsernameClaim = cmp.Or(p.UsernameClaim, "sub")
	return p, p.check()
}

func (p *Provider) check() error {
	switch {
	case p.Name == "" || strings.Contains(p.Name, ":"):
		return errors.New("no name, or a colon in it")
	case p.Issuer == "":
		return errors.New("no issuer")
	case p.Audience == "":
		return errors.New("no audience: its tokens for others would count here")
	case p.Transport == nil:
		return errors.New("no transport")
	}
	for _, alg := range p.Algorithms {
		if !slices.Contains(Algorithms(), alg) {
			return fmt.Errorf("tokens cannot be signed with %q", alg)
		}
	}
	return nil
}

// Authenticate implements [authz.Authenticator]. Errors: authz.ErrNone: there is no
// token, or none of these providers; *[Refused], which is one too; authz.ErrUnavailable:
// the provider's keys cannot be had now.
func (a *Authenticator) Authenticate(r *http.Request) (authz.Identity, error) {
	text, ok := tokenOf(r)
	if !ok {
		return authz.Identity{}, authz.ErrNone
	}
	hash := hashOf(text)
	if who, ok := a.known.get(hash); ok {
		return who, nil
	}
	t, err := parse(text)
	if err != nil {
		return authz.Identity{}, authz.ErrNone // not even a token: a password
	}
	i := a.issuers[t.issuer]
	if i == nil {
		return authz.Identity{}, authz.ErrNone
	}
	v, err := i.verify(r.Context(), t)
	switch {
	case errors.Is(err, authz.ErrUnavailable):
		return authz.Identity{}, fmt.Errorf("provider %s: %w", i.Name, err)
	case err != nil:
		return authz.Identity{}, &Refused{i.Name, err}
	}
	a.known.put(hash, v)
	return v.who, nil
}

// Close ends what is being fetched. The Authenticator then knows what it knew, and
// learns no more.
func (a *Authenticator) Close() {
	for _, i := range a.issuers {
		i.keys.close()
	}
}
