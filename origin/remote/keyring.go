package remote

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/remote/login"
)

const (
	// maxTokens bounds the tokens that are kept, one per repository of late.
	maxTokens = 1 << 10
	// relearn is how often, at most, an endpoint is asked anew how it wants to be asked because
	// its token server refuses: mostly that is about who asks, and for what.
	relearn = time.Minute
)

// keyring knows how the endpoint wants to be asked, and has what it takes. All
// that it has belongs to one identity at one endpoint; a token's key among them
// is what it was asked for with.
type keyring struct {
	root     *url.URL
	out      *egress.Client
	login    login.Provider // nil = anonymous
	patience time.Duration  // for a ping or a token, all in all

	flights singleflight.Group
	mu      sync.Mutex
	learned time.Time // when the endpoint said what it wants; zero: that is not known
	wants   challenge
	tokens  map[tokenKey]token
}

type tokenKey struct {
	challenge challenge
	scope     string
}

type token struct {
	authorization egress.Secret
	expires       time.Time // when to have another, some time before it lapses
}

func newKeyring(root *url.URL, out *egress.Client, o Options) *keyring {
	k := &keyring{
		root: root, out: out, login: o.Login,
		patience: 2*o.Timeouts.Connect + o.Timeouts.Header + o.Timeouts.Stall,
		tokens:   map[tokenKey]token{},
	}
	return k
}

// grant is what a request is asked with.
type grant struct {
	authorization egress.Secret // none = nothing is wanted, or nothing there
	key           tokenKey
	fresh         bool        // got for this request, not kept from before
	login         login.Login // whom it names, if it does
}

// grant gives what a request needs, as far as the endpoint's wants are known: it
// is asked for them once (GET /v2/), and a token is fetched once per scope,
// however many need them.
func (k *keyring) grant(ctx context.Context, scope string) (grant, error) {
	c, err := k.learn(ctx)
	if err != nil {
		return grant{}, err
	}
	g := grant{key: tokenKey{c, scope}}
	switch c.scheme {
	case "basic":
		if g.login, err = k.who(ctx); err != nil {
			return grant{}, err
		}
		if g.login.Identity != (egress.Secret{}) && g.login.Password == (egress.Secret{}) {
			return grant{}, errors.New("credentials: a refresh token is for token servers, and the endpoint wants a password")
		}
		g.authorization = basic(g.login, g.login.Password)
	case "bearer":
		if g.authorization, g.fresh, err = k.token(ctx, g.key); err != nil {
			return grant{}, fmt.Errorf("token: %w", err)
		}
	}
	return g, nil
}

// again gives another grant in place of one that was refused with 401, or with
// 403, which is how some say that a token has lapsed (ECR). ok is false if there
// is nothing else to ask with.
func (k *keyring) again(ctx context.Context, refused grant, a *answer) (g grant, ok bool, err error) {
	key := refused.key
	if a.StatusCode == http.StatusUnauthorized {
		if c, scope, is := parseChallenge(ctx, a.Header); is {
			if c != key.challenge {
				key.challenge = c
				k.know(c)
			}
			if c.scheme == "bearer" && reading(scope) && reading(key.scope) {
				key.scope = scope
			}
		}
	}
	if key == refused.key && refused.fresh {
		return grant{}, false, nil
	}
	k.drop(refused)
	if g, err = k.grant(ctx, key.scope); err != nil {
		return grant{}, false, err
	}
	return g, g.authorization.Reveal() != refused.authorization.Reveal(), nil
}

// learn says how the endpoint wants to be asked.
func (k *keyring) learn(ctx context.Context) (challenge, error) {
	if c, ok := k.learnt(); ok {
		return c, nil
	}
	v, err := k.once(ctx, "ping", func(ctx context.Context) (any, error) {
		if c, ok := k.learnt(); ok { // by a flight that landed in between
			return c, nil
		}
		c, err := k.ping(ctx)
		if err != nil {
			return nil, err
		}
		k.know(c)
		return c, nil
	})
	if err != nil {
		return challenge{}, fmt.Errorf("GET /v2/: %w", err)
	}
	return v.(challenge), nil
}

func (k *keyring) learnt() (challenge, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.wants, !k.learned.IsZero()
}

func (k *keyring) know(c challenge) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.learned, k.wants = time.Now(), c
}

// doubt has the endpoint asked anew how it wants to be asked, by whoever comes next, where
// its token server fails: it may have another one by now, and is not asked before there is a
// token. That it wants fewer requests says that it is the one.
func (k *keyring) doubt(c challenge, err error) {
	refused, ok := errors.AsType[*refusal](err)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.wants != c || ok && refused.status == http.StatusTooManyRequests ||
		ok && denies(refused.status) && time.Since(k.learned) < relearn {
		return
	}
	k.learned = time.Time{}
}

// ping asks the endpoint how it wants to be asked. An answer that says nothing of
// it (some have no /v2/ of their own) is as good as no wants: what is asked for
// next will be refused with a challenge if there is one.
func (k *keyring) ping(ctx context.Context) (challenge, error) {
	a, err := follow(ctx, k.out, egress.Request{Method: http.MethodGet, URL: k.root}, egress.Secret{})
	if err != nil {
		return challenge{}, err
	}
	defer a.Discard()
	switch {
	case a.StatusCode == http.StatusUnauthorized && !a.Led:
		c, _, _ := parseChallenge(ctx, a.Header)
		return c, nil
	case a.StatusCode == http.StatusTooManyRequests, a.StatusCode == http.StatusRequestTimeout,
		a.StatusCode >= http.StatusInternalServerError:
		return challenge{}, a.refusal()
	}
	return challenge{}, nil
}

// token gives a token, and whether it was fetched just now.
func (k *keyring) token(ctx context.Context, key tokenKey) (authorization egress.Secret, fresh bool, err error) {
	if kept, ok := k.kept(key); ok {
		return kept, false, nil
	}
	v, err := k.once(ctx, fmt.Sprintf("%q", []string{key.challenge.realm, key.challenge.service, key.scope}), func(ctx context.Context) (any, error) {
		if kept, ok := k.kept(key); ok { // by a flight that landed in between
			return kept, nil
		}
		t, err := k.exchange(ctx, key)
		if err != nil {
			k.doubt(key.challenge, err)
			return nil, err
		}
		k.keep(key, t)
		return t.authorization, nil
	})
	if err != nil {
		return egress.Secret{}, false, err
	}
	return v.(egress.Secret), true, nil
}

func (k *keyring) kept(key tokenKey) (egress.Secret, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t, ok := k.tokens[key]
	return t.authorization, ok && time.Now().Before(t.expires)
}

func (k *keyring) keep(key tokenKey, t token) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.tokens[key]; !ok && len(k.tokens) >= maxTokens {
		// The one that lapses first goes: mostly it has lapsed already.
		var first tokenKey
		for other, held := range k.tokens {
			if first == (tokenKey{}) || held.expires.Before(k.tokens[first].expires) {
				first = other
			}
		}
		delete(k.tokens, first)
	}
	k.tokens[key] = t
}

// drop forgets a token, or a login, unless there is another in its place already.
func (k *keyring) drop(g grant) {
	if g.login != (login.Login{}) {
		k.login.Drop(g.login)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if t, ok := k.tokens[g.key]; ok && t.authorization == g.authorization {
		delete(k.tokens, g.key)
	}
}

// once lets one of those who need the same thing get it for all. It goes on for
// the others when the one whose call it was leaves: it has a time of its own.
func (k *keyring) once(ctx context.Context, what string, get func(context.Context) (any, error)) (any, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	landed := k.flights.DoChan(what, func() (any, error) {
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), k.patience, os.ErrDeadlineExceeded)
		defer cancel()
		v, err := get(ctx)
		if err != nil && ctx.Err() != nil {
			err = &egress.Silence{Err: context.Cause(ctx)} // of whoever gives out what it takes to be let in
		}
		return v, err
	})
	select {
	case r := <-landed:
		return r.Val, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// who gives the endpoint's login, the zero one if it is asked anonymously.
func (k *keyring) who(ctx context.Context) (login.Login, error) {
	if k.login == nil {
		return login.Login{}, nil
	}
	l, err := k.login.Login(ctx)
	if err != nil {
		return login.Login{}, fmt.Errorf("credentials: %w", err)
	}
	return l, nil
}

// basic is the Authorization of a login, none of nobody's.
func basic(l login.Login, password egress.Secret) egress.Secret {
	if l == (login.Login{}) {
		return egress.Secret{}
	}
	return egress.Conceal("Basic " + base64.StdEncoding.EncodeToString([]byte(l.Username+":"+password.Reveal())))
}
