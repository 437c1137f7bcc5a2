package config

import (
	"time"

	"github.com/weir-registry/weir/authz/token"
)

// Token says how weir's own tokens are made.
type Token struct {
	// Enabled has clients fetch a token at /token, and show it in the place of their
	// credentials.
	Enabled bool `yaml:"enabled"`
	// TTL is how long a token lasts.
	TTL Duration `yaml:"ttl"`
	// Key signs them: 32 characters or more, or a private key in PEM. None: one is made
	// once, and kept in the store.
	Key Secret `yaml:"key"`
}

func (v *validator) token(t *Token) {
	const path = "authz.token"
	if t.TTL.Std() < token.LeastTTL || t.TTL.Std()%time.Second != 0 {
		v.fail(path+".ttl", "must be whole seconds, 60s or more, not %s", t.TTL)
	}
	if t.Key.IsZero() {
		return
	}
	text, err := t.Key.Value()
	if err == nil {
		_, err = token.ParseKey(text)
	}
	if err != nil {
		v.fail(v.secret(path+".key", t.Key), "is no good: %s", of(t.Key, err))
	}
}
