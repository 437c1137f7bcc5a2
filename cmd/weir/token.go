package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/authz/token"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/serve"
	"github.com/weir-registry/weir/store"
)

// tokenKey is the record with the key for tokens, where the configuration has none.
const tokenKey = "authz/token-key"

// keptKey keeps a key in a record of a store, where all replicas find it.
type keptKey struct {
	records store.Records
	name    string
}

// Keep implements token.Keeper.
func (k keptKey) Keep(ctx context.Context, value []byte) ([]byte, error) {
	for {
		r, err := k.records.Get(ctx, k.name)
		if !errors.Is(err, store.ErrNotFound) {
			return r.Data, err
		}
		_, err = k.records.Put(ctx, k.name, value, store.Absent())
		if !errors.Is(err, store.ErrConflict) {
			return value, err
		}
		// Somebody else was first: theirs is there now.
	}
}

// newTokens is what makes weir's own tokens and reads them; nil where there are none.
// A key that nobody wrote is made when it is first needed.
func newTokens(c config.Authz, records store.Records, log *slog.Logger) (*token.Issuer, error) {
	if !c.Token.Enabled {
		return nil, nil
	}
	source := token.Kept(keptKey{records, tokenKey})
	if !c.Token.Key.IsZero() {
		var err error
		source, err = token.Written(c.Token.Key.Value, func(err error) {
			log.Error("key for tokens not taken: the last good one goes on", "error", err)
		})
		if err != nil {
			return nil, fmt.Errorf("authz.token.key: %w", err)
		}
	}
	return token.New(c.Realm, c.Token.TTL.Std(), source), nil
}

// newChallenge says how clients ask again. base gives weir's address where the
// configuration has none.
func newChallenge(c *config.Config, base func(context.Context) string) token.Challenge {
	if !c.Server.ExternalURL.IsZero() {
		own := c.Server.ExternalURL.String()
		base = func(context.Context) string { return own }
	}
	return token.Challenge{Realm: c.Authz.Realm, Tokens: c.Authz.Token.Enabled, Base: base}
}

// locateToken finds the names of scopes as a guard finds those of accesses.
func locateToken(locate func(ctx context.Context, repo origin.Repo, write bool) (origin.Repo, string, error)) token.Locate {
	return func(ctx context.Context, name string, write bool) (string, string, error) {
		repo, err := origin.ParseRepo(name)
		if err != nil {
			return "", "", err
		}
		full, upstream, err := locate(ctx, repo, write)
		return full.String(), upstream, err
	}
}

// failToken answers at /token with an error, as the registry does; c says how to ask.
func failToken(c token.Challenge, log *slog.Logger) func(http.ResponseWriter, *http.Request, error) {
	return func(w http.ResponseWriter, r *http.Request, err error) {
		request := origin.RequestOf(r.Context())
		log.Log(r.Context(), guard.Level(err), "token not given", "error", err.Error(), "trace_id", request.ID)
		switch {
		case errors.Is(err, authz.ErrUnavailable):
			err = origin.Wrap(origin.Errorf(origin.ErrUnavailable, "who you are cannot be checked now"), err)
		case errors.Is(err, token.ErrRequest):
			err = origin.Errorf(origin.ErrUnsupported, "%v", err).WithStatus(http.StatusBadRequest)
		case errors.Is(err, token.ErrMethod):
			err = origin.Errorf(origin.ErrUnsupported, "%v", err)
		default:
			request.Challenge = c.Password()
			err = origin.Wrap(origin.Errorf(origin.ErrUnauthorized, "the credentials are not accepted"), err)
		}
		serve.Error(w, r, err)
	}
}
