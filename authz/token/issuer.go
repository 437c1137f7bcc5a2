package token

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/weir-registry/weir/authz"
)

const (
	// MaxToken is the longest token that is looked at, and that is issued, in bytes.
	MaxToken = 16 << 10
	// LeastTTL is how long a token lasts at least: clients take less for a mistake.
	LeastTTL = time.Minute
	// refreshTTL is how long a refresh token lasts: docker keeps it in its config.json
	// in the place of the password.
	refreshTTL = 90 * 24 * time.Hour
	// remembered is how many tokens are known again without looking at their signature.
	remembered = 4096
)

// errTooLong says that a token would be longer than anybody would look at.
var errTooLong = errors.New("token: there is too much to say in it")

// Issuer makes tokens and reads them. It is safe for concurrent use.
type Issuer struct {
	realm string
	ttl   time.Duration
	key   Source
	known *lru.Cache[string, known] // by the token itself
}

// known is an access token that was read.
type known struct {
	key    *Key // that signed it
	claims *claims
	who    authz.Identity
}

var _ authz.Authenticator = (*Issuer)(nil)

// New makes an Issuer of tokens for realm, which is their issuer and their audience.
// They last ttl, LeastTTL at least, in whole seconds.
func New(realm string, ttl time.Duration, key Source) *Issuer {
	c, err := lru.New[string, known](remembered)
	if err != nil {
		panic("token: a size of 0")
	}
	return &Issuer{realm: realm, ttl: max(ttl, LeastTTL).Truncate(time.Second), key: key, known: c}
}

// Authenticate implements authz.Authenticator: it reads bearer tokens (RFC 6750, 2.1)
// that it has issued. The Identity is that which a token was issued to, with the scope
// of the token and the method "token"; it may be nobody's.
func (i *Issuer) Authenticate(r *http.Request) (authz.Identity, error) {
	headers := r.Header["Authorization"]
	if len(headers) != 1 {
		return authz.Identity{}, authz.ErrNone
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	if !strings.EqualFold(scheme, "Bearer") || len(token) > MaxToken {
		return authz.Identity{}, authz.ErrNone
	}
	if strings.Count(token, ".") != 2 {
		return authz.Identity{}, authz.ErrNone // no key need be had for it
	}
	k, err := i.recall(r.Context(), token)
	switch {
	case errors.Is(err, errForeign):
		return authz.Identity{}, authz.ErrNone
	case err != nil:
		return authz.Identity{}, fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
	}
	return k.who, nil
}

// recall reads an access token, if it was not read before, by the key that counts now.
// Errors: as of read.
func (i *Issuer) recall(ctx context.Context, token string) (known, error) {
	key, err := i.key(ctx)
	if err != nil {
		return known{}, err
	}
	k, ok := i.known.Get(token)
	switch {
	case ok && k.key == key && !k.claims.over(time.Now()):
		return k, nil
	case ok:
		i.known.Remove(token)
	}
	c, err := read(key, access, i.realm, token)
	if err != nil {
		return known{}, err
	}
	k = known{key, c, c.identity()}
	i.known.Add(token, k)
	return k, nil
}

// Issued is a token, and what a client is told of it.
type Issued struct {
	Token string
	At    time.Time
	TTL   time.Duration
}

// Issue makes a token for somebody, or for nobody, which is bound to a scope; nil is
// one that allows nothing. Errors: those of the key; that it would be too long.
func (i *Issuer) Issue(ctx context.Context, to authz.Identity, scope authz.Scope) (Issued, error) {
	if scope == nil {
		scope = authz.Scope{}
	}
	c := &claims{Subject: to.ID, Access: scope}
	if to.Authenticated() {
		c.Who = &who{to.Username, to.Groups, to.Certificate, to.OIDC}
	}
	return i.write(ctx, access, c, i.ttl)
}

// issueRefresh makes a refresh token for somebody, under what they have shown.
func (i *Issuer) issueRefresh(ctx context.Context, to authz.Identity, stamp string) (Issued, error) {
	c := &claims{Subject: to.ID, Who: &who{Username: to.Username}, Stamp: stamp}
	return i.write(ctx, refresh, c, refreshTTL)
}

func (i *Issuer) write(ctx context.Context, what kind, c *claims, ttl time.Duration) (Issued, error) {
	key, err := i.key(ctx)
	if err != nil {
		return Issued{}, err
	}
	at := time.Now().Truncate(time.Second)
	c.Issuer, c.Audience, c.ID = i.realm, i.realm, rand.Text()
	c.Issued, c.Expires = at.Unix(), at.Add(ttl).Unix()
	payload, err := json.Marshal(c)
	if err != nil {
		return Issued{}, fmt.Errorf("write a token: %w", err)
	}
	token, err := key.sign(what, payload)
	if err != nil {
		return Issued{}, fmt.Errorf("sign a token: %w", err)
	}
	if len(token) > MaxToken {
		return Issued{}, errTooLong
	}
	return Issued{token, at, ttl}, nil
}

// redeem reads a refresh token. Errors: as of read, those of the key.
func (i *Issuer) redeem(ctx context.Context, token string) (*claims, error) {
	if strings.Count(token, ".") != 2 {
		return nil, errForeign // no key need be had for it
	}
	key, err := i.key(ctx)
	if err != nil {
		return nil, err
	}
	return read(key, refresh, i.realm, token)
}

// read gives the claims of a token that has not lapsed. Errors: errForeign.
func read(key *Key, what kind, realm, token string) (*claims, error) {
	payload, err := key.open(what, token)
	if err != nil {
		return nil, err
	}
	c, err := parseClaims(what, realm, payload)
	if err != nil {
		return nil, err
	}
	if c.over(time.Now()) {
		return nil, errForeign
	}
	return c, nil
}
