package docker

import (
	"context"

	"github.com/weir-registry/weir/origin/remote/login"
)

// Fetch looks a login up as the cache does, in the caller's time.
func (k *Keychain) Fetch(ctx context.Context) (login.Login, error) {
	l, _, err := k.fetch(ctx)
	return l, err
}
