package token

import (
	"context"
	"net/http"
	"strings"

	"github.com/weir-registry/weir/authz"
)

// Challenge says how to ask: it makes the WWW-Authenticate headers of a 401.
type Challenge struct {
	// Realm is authz.realm: the service of a token, the realm of a password.
	Realm string
	// Tokens says that tokens are had at /token; else passwords are asked for.
	Tokens bool
	// Base gives the address of weir as the client knows it, without a slash at its end:
	// "https://weir.corp". "": none that can be repeated.
	Base func(ctx context.Context) string
}

// Headers gives the headers, one string each. needs is the scope that would do, nil
// where only credentials are wanted. lacking says that a token was shown which does not
// cover it (RFC 6750, 3.1).
func (c Challenge) Headers(ctx context.Context, needs authz.Scope, lacking bool) []string {
	base := ""
	if c.Tokens {
		base = c.Base(ctx)
	}
	if base == "" {
		return c.Password()
	}
	h := "Bearer realm=" + quote(base+"/token") + ",service=" + quote(c.Realm)
	if len(needs) > 0 {
		h += ",scope=" + quote(needs.String())
	}
	if lacking {
		h += `,error="insufficient_scope"`
	}
	return []string{h}
}

// Password gives the headers that ask for a name and a password, as /token itself does.
func (c Challenge) Password() []string {
	return []string{"Basic realm=" + quote(c.Realm) + `,charset="UTF-8"`}
}

// quote writes a quoted-string (RFC 9110, 5.6.4); what has no place in one is left out.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(s) {
		switch {
		case c == '"', c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case ' ' <= c && c < 0x7f:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// Base is the address that a request called, for a Challenge: "http://localhost:5000".
// It is "" where the client's Host is none. What a proxy says of its own address, those
// know who know which proxies are believed.
func Base(r *http.Request) string {
	if r.Host == "" || strings.ContainsFunc(r.Host, func(c rune) bool {
		return (c < 'a' || 'z' < c) && (c < 'A' || 'Z' < c) && (c < '0' || '9' < c) && !strings.ContainsRune(".-_:[]", c)
	}) {
		return ""
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

// Door decides on GET /v2/, with which clients find out whether they have to log in.
type Door struct {
	// Asks says that who shows nothing is asked who they are, even where nobody in
	// particular may pull: people can log in, and get tokens.
	Asks   bool
	Rights authz.Authorizer
}

// Opens reports whether who asks is let in; else they are asked for credentials. Those
// that were accepted are enough, whatever they are good for; a token of nobody's too.
func (d Door) Opens(ctx context.Context, who authz.Identity) bool {
	switch {
	case who.Authenticated(), who.Method == authz.MethodToken:
		return true
	case d.Asks:
		return false
	}
	return d.Rights.Authorize(ctx, who, authz.Access{Action: authz.Pull}) == nil
}
