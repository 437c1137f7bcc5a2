package oidc

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// leastRSA is how many bits a key must have (RFC 7518, 3.3).
const leastRSA = 2048

// set is a JWK Set (RFC 7517, 5), of its public keys for signatures. It does not
// change.
type set struct {
	text []byte
	keys []jose.JSONWebKey
}

// parseSet reads a set. Keys that are no such keys, or that it does not understand,
// are left out; a set may be empty, for an issuer may withdraw all keys.
// Errors: it is no set.
func parseSet(text []byte) (*set, error) {
	var raw struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &raw); err != nil || raw.Keys == nil {
		return nil, errors.New("not a set of keys")
	}
	s := &set{text: text}
	for _, one := range raw.Keys {
		var key jose.JSONWebKey
		if err := key.UnmarshalJSON(one); err != nil {
			continue
		}
		if key.Use == "" || key.Use == "sig" {
			if family(key.Key) != "" {
				s.keys = append(s.keys, key)
			}
		}
	}
	return s, nil
}

// family is what the algorithms of a public key begin with; "" = it has none.
func family(key any) string {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() >= leastRSA {
			return "RS PS"
		}
	case *ecdsa.PublicKey:
		return "ES"
	case ed25519.PublicKey:
		return "Ed"
	}
	return ""
}

// find gives the keys of that kid which may have signed with that algorithm. Without
// a kid it is the only key that may, if it is the only one (OpenID Connect Core, 10.1).
func (s *set) find(kid, alg string) []crypto.PublicKey {
	var found []crypto.PublicKey
	for _, key := range s.keys {
		if kid != "" && key.KeyID != kid || key.Algorithm != "" && key.Algorithm != alg {
			continue
		}
		for start := range strings.FieldsSeq(family(key.Key)) {
			if strings.HasPrefix(alg, start) {
				found = append(found, key.Key)
			}
		}
	}
	if kid == "" && len(found) > 1 {
		return nil
	}
	return found
}

// equal reports whether both are the same text.
func (s *set) equal(other *set) bool { return other != nil && bytes.Equal(s.text, other.text) }
