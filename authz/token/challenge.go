package token

import (
	"context"
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
