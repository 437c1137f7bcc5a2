package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/weir-registry/weir/origin"
)

// mostLeeway is how far clocks may be apart: longer, and what has expired counts.
const mostLeeway = Duration(10 * time.Minute)

// OIDC is one provider of OpenID Connect.
type OIDC struct {
	// Name is what the identities of its users begin with: oidc:NAME:.
	Name string `yaml:"name"`
	// Issuer is its URL as it writes it itself, a slash at the end included.
	Issuer string `yaml:"issuer"`
	// Audience is whom its tokens must be for.
	Audience string `yaml:"audience"`
	// Algorithms are those that its tokens may be signed with.
	Algorithms []Algorithm `yaml:"algorithms"`
	// UsernameClaim and GroupsClaim are the claims that its users are called by, and
	// that lists their groups; "" for the latter: there are none.
	UsernameClaim string `yaml:"username_claim"`
	GroupsClaim   string `yaml:"groups_claim"`
	// RequiredClaims must be there ("name"), and be a value or have it ("name=value").
	RequiredClaims []string `yaml:"required_claims"`
	// JWKSURI is where its keys are; "": where its discovery document says.
	JWKSURI string `yaml:"jwks_uri"`
	// Leeway is how far its clock may be off.
	Leeway Duration `yaml:"leeway"`
	// CA is a PEM file of the authorities that are believed besides the system's.
	CA string `yaml:"ca"`
	// ClientID is what weir is called there, where people may sign in to the UI with it; "":
	// they may not. ClientSecret is what it proves that by, and Scopes are asked for besides
	// openid.
	ClientID     string   `yaml:"client_id"`
	ClientSecret Secret   `yaml:"client_secret"`
	Scopes       []string `yaml:"scopes"`
}

// setDefaults makes o a provider that says nothing.
func (o *OIDC) setDefaults() {
	o.Algorithms = []Algorithm{"RS256"}
	o.UsernameClaim = "sub"
	o.GroupsClaim = "groups"
	o.Leeway = Duration(time.Minute)
}

// Algorithm is a way to sign tokens that a public key verifies.
type Algorithm string

// algorithms are all that there are. Those with a shared secret, and none, are not.
func algorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// MarshalText implements [encoding.TextMarshaler].
func (a Algorithm) MarshalText() ([]byte, error) { return []byte(a), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (a *Algorithm) UnmarshalText(text []byte) error {
	if !slices.Contains(algorithms(), string(text)) {
		return fmt.Errorf("%s is no algorithm that tokens may be signed with: write %s", origin.Quote(string(text)), strings.Join(algorithms(), ", "))
	}
	*a = Algorithm(text)
	return nil
}

func (v *validator) oidc(providers []OIDC) {
	for i, o := range providers {
		path := fmt.Sprintf("authz.oidc[%d]", i)
		for j, before := range providers[:i] {
			if o.Name != "" && o.Name == before.Name {
				v.fail(path+".name", "is %s, and so is authz.oidc[%d]: its users would be taken for those of the other", o.Name, j)
			}
			if o.Issuer != "" && o.Issuer == before.Issuer {
				v.fail(path+".issuer", "is that of authz.oidc[%d]: a token names its issuer and no more", j)
			}
		}
		v.provider(o, path)
	}
}

func (v *validator) provider(o OIDC, path string) {
	switch {
	case o.Name == "":
		v.fail(path, "has no name: give one that its users' identities begin with, such as github")
	case !validProvider(o.Name):
		v.fail(path+".name", "is %s: write letters, digits, dots, hyphens and underscores", origin.Quote(o.Name))
	}
	if o.Issuer == "" {
		v.fail(path, "has no issuer: give the URL that its tokens name, exactly as they do")
	} else if err := checkIssuer(o.Issuer); err != nil {
		v.errs.add(v.position(path+".issuer"), "%s.issuer: %v", path, err)
	}
	if o.Audience == "" {
		v.fail(path, "has no audience: what the provider says to others would count here. Give what its tokens for weir name in aud")
	}
	if len(o.Algorithms) == 0 {
		v.fail(path+".algorithms", "is empty: no token could be signed. Leave it out for RS256")
	}
	if o.UsernameClaim == "" {
		v.fail(path+".username_claim", "is empty: leave it out for sub")
	}
	for i, required := range o.RequiredClaims {
		if name, value, valued := strings.Cut(required, "="); name == "" || valued && value == "" {
			v.fail(fmt.Sprintf("%s.required_claims[%d]", path, i), "is %s: write name or name=value", origin.Quote(required))
		}
	}
	if o.JWKSURI != "" {
		if err := checkJWKSURI(o.JWKSURI, strings.HasPrefix(o.Issuer, "http:")); err != nil {
			v.errs.add(v.position(path+".jwks_uri"), "%s.jwks_uri: %v", path, err)
		}
	}
	if o.ClientID == "" && (!o.ClientSecret.IsZero() || len(o.Scopes) > 0) {
		v.fail(path, "has no client_id: without it nobody signs in to the UI with it, and client_secret and scopes are for that alone")
	}
	for i, scope := range o.Scopes {
		if scope == "" || strings.ContainsFunc(scope, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
			v.fail(fmt.Sprintf("%s.scopes[%d]", path, i), "is %s: write a word, such as groups", origin.Quote(scope))
		}
	}
	if file := o.ClientSecret.File(); file != "" {
		v.readable(path+".client_secret_file", file)
	}
	if o.Leeway > mostLeeway {
		v.fail(path+".leeway", "must be %s or less, not %s", mostLeeway, o.Leeway)
	}
	if o.CA != "" {
		v.authorities(path+".ca", o.CA)
	}
}

// validProvider reports whether s can be the name of a provider: it stands in
// identities between colons.
func validProvider(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || 'z' < r) && (r < 'A' || 'Z' < r) && (r < '0' || '9' < r) && !strings.ContainsRune("._-", r)
	})
}

// checkIssuer examines an issuer, which stays as it is written: tokens are compared
// with it letter by letter.
func checkIssuer(s string) error {
	var u URL
	return u.UnmarshalText([]byte(s))
}

// checkJWKSURI examines where keys are; unlike an issuer it may have a query.
func checkJWKSURI(s string, plain bool) error {
	var u URL
	base, query, _ := strings.Cut(s, "?")
	if err := u.UnmarshalText([]byte(base)); err != nil {
		return err
	}
	if _, err := url.Parse(s); err != nil || strings.Contains(query, "#") {
		return errors.New("no URL: write http:// or https:// and a host")
	}
	if u.Scheme == "http" && !plain {
		return errors.New("the scheme is http, and the issuer's is https: keys that come in the clear can be anybody's")
	}
	return nil
}
