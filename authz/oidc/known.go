package oidc

import (
	"crypto/sha256"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/weir-registry/weir/authz"
)

const (
	// trusted is how long it is known who a token is for without verifying it again: a
	// push is many requests, each with the same one.
	trusted = time.Minute
	// mostKnown is how many tokens are known at a time; 16 KiB each at most, of claims.
	mostKnown = 2048
)

// verified is who a token is for.
type verified struct {
	who   authz.Identity
	keys  *keys
	set   *set // of which a key verified it
	until time.Time
}

// known are tokens that were verified a moment ago, by their hash: the tokens
// themselves are not kept.
type known struct {
	tokens *lru.Cache[hash, verified]
}

type hash [sha256.Size]byte

func hashOf(token string) hash { return sha256.Sum256([]byte(token)) }

func newKnown() *known {
	tokens, err := lru.New[hash, verified](mostKnown)
	if err != nil {
		panic("oidc: " + err.Error()) // the number is positive
	}
	return &known{tokens}
}

// get gives who a token is for, while that holds: for a minute, and not past its
// expiry; not when the provider's keys are others by now.
func (k *known) get(h hash) (authz.Identity, bool) {
	v, ok := k.tokens.Get(h)
	if !ok {
		return authz.Identity{}, false
	}
	if !time.Now().Before(v.until) || !v.keys.holds(v.set) {
		k.tokens.Remove(h)
		return authz.Identity{}, false
	}
	return v.who, true
}

func (k *known) put(h hash, v verified) { k.tokens.Add(h, v) }
