package oidc

import (
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// What a request costs whose token was seen a moment ago, and one whose was not.
func BenchmarkAuthenticate(b *testing.B) {
	k := someKeys()
	p := newProvider("https://op.example", public("1", &k.rsa.PublicKey), public("ec", &k.ec.PublicKey))
	o := of(p, "corp")
	o.Algorithms = []string{"RS256", "ES256"}
	a, err := New([]Provider{o}, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	tokens := map[string]string{
		"RS256": sign(jose.RS256, k.rsa, claims{"kid": "1"}, good(p.url)),
		"ES256": sign(jose.ES256, k.ec, claims{"kid": "ec"}, good(p.url)),
	}
	for name, token := range tokens {
		for _, seen := range []bool{true, false} {
			b.Run(map[bool]string{true: "seen ", false: "new "}[seen]+name, func(b *testing.B) {
				b.ReportAllocs()
				r := bearer(token)
				for b.Loop() {
					if !seen {
						a.known.tokens.Purge()
					}
					if _, err := a.Authenticate(r); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
