package token

import (
	"encoding/json"
	"time"

	"github.com/weir-registry/weir/authz"
)

// claims are what a token says (RFC 7519; "access" is distribution's).
type claims struct {
	Issuer   string      `json:"iss"`
	Audience string      `json:"aud"`
	Subject  string      `json:"sub"` // an Identity's ID; "" is nobody
	Expires  int64       `json:"exp"` // seconds since 1970
	Issued   int64       `json:"iat"`
	ID       string      `json:"jti"`
	Access   authz.Scope `json:"access"`         // of an access token
	Who      *who        `json:"weir,omitempty"` // nil: nobody
	// Stamp is what a refresh token was issued under.
	Stamp string `json:"stamp,omitempty"`
}

// who is an Identity without what does not travel: how it was shown, and from where.
type who struct {
	Username    string             `json:"username,omitempty"`
	Groups      []string           `json:"groups,omitempty"`
	Certificate *authz.Certificate `json:"certificate,omitempty"`
	OIDC        *authz.OIDC        `json:"oidc,omitempty"`
}

// identity is whom an access token is of.
func (c *claims) identity() authz.Identity {
	i := authz.Identity{ID: c.Subject, Method: authz.MethodToken, Scope: c.Access}
	if c.Who != nil {
		i.Username, i.Groups, i.Certificate = c.Who.Username, c.Who.Groups, c.Who.Certificate
		if c.Who.OIDC != nil {
			i.OIDC = c.Who.OIDC.Summed()
		}
	}
	return i
}

// parseClaims reads what a key has signed, and wants it to be complete.
// Errors: errForeign.
func parseClaims(what kind, realm string, payload []byte) (*claims, error) {
	c := &claims{}
	if json.Unmarshal(payload, c) != nil {
		return nil, errForeign
	}
	nobody := c.Subject == ""
	switch {
	case c.Issuer != realm, c.Audience != realm, c.Expires <= 0, nobody != (c.Who == nil):
		return nil, errForeign
	case what == access && c.Access == nil: // which would be no bound at all
		return nil, errForeign
	case what == refresh && (nobody || c.Stamp == ""):
		return nil, errForeign
	}
	return c, nil
}

// over reports whether the token has lapsed: there is no leeway.
func (c *claims) over(now time.Time) bool { return !now.Before(time.Unix(c.Expires, 0)) }
