package authz

import (
	"crypto/sha256"
	"encoding/json"
	"net/netip"
)

// Method is how somebody showed who they are.
type Method string

// The methods, as policies see them.
const (
	MethodNone  Method = "none" // nobody was asked, or nothing was shown
	MethodMTLS  Method = "mtls"
	MethodOIDC  Method = "oidc"
	MethodBasic Method = "basic"
	MethodToken Method = "token" // one of weir's own, which carries who it was issued to
)

// Identity is who asks. The zero Identity is nobody, from nowhere. It is not changed
// once it is made: many requests may share one.
type Identity struct {
	// ID names one person or machine for ever: "basic:ci", "oidc:<provider>:<sub>",
	// "mtls:<issuer>:<subject>"; "" is nobody.
	ID string
	// Username is what they are called where they come from. It may be somebody
	// else's elsewhere: only ID tells people apart.
	Username string
	Groups   []string
	Method   Method
	// Certificate is of those who showed one, OIDC of those whom a provider vouches
	// for; else nil. A token carries both on.
	Certificate *Certificate
	OIDC        *OIDC
	// Scope bounds what a token of weir's may be used for; nil: no bound.
	Scope Scope
	// Client is where the request comes from.
	Client Client
}

// Authenticated reports whether it is somebody.
func (i Identity) Authenticated() bool { return i.ID != "" }

// String is the ID: what logs say of who asked.
func (i Identity) String() string { return i.ID }

// Client is where a request comes from, as far as that can be believed.
type Client struct {
	// IP is the address; the zero Addr is none that can be believed, or a unix socket.
	IP netip.Addr
	// Local says that it is surely this machine that asks, and called weir by a name
	// that is this machine's own.
	Local bool
}

// Certificate is what a verified client certificate says of its owner.
type Certificate struct {
	CommonName    string   `json:"common_name"`
	Organizations []string `json:"organizations,omitempty"`
	DNSNames      []string `json:"dns_names,omitempty"`
	URIs          []string `json:"uris,omitempty"`
}

// OIDC is what a provider says of somebody.
type OIDC struct {
	Provider string         `json:"provider"` // its name in the configuration
	Subject  string         `json:"subject"`
	Claims   map[string]any `json:"claims"` // as they were in the token: JSON values

	// sum is that of the claims, if it was made by Sum.
	sum *[sha256.Size]byte
}

// Sum tells apart all claims that a decision could tell apart. Of what many requests
// share it is made once, before the first of them: the claims are not changed after it.
// ok is false where there is none, since a claim is no JSON.
func (o *OIDC) Sum() (sum [sha256.Size]byte, ok bool) {
	if o.sum != nil {
		return *o.sum, true
	}
	// They were JSON, and are text that it keeps as it is.
	claims, err := json.Marshal(o.Claims)
	if err != nil {
		return sum, false
	}
	return sha256.Sum256(claims), true
}

// Summed gives the same with its Sum made.
func (o OIDC) Summed() *OIDC {
	if sum, ok := o.Sum(); ok {
		o.sum = &sum
	}
	return &o
}
