package oidc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/weir-registry/weir/authz"
)

const both = "/.well-known/openid-configuration /jwks"

// scene is a provider with one key, and what became of its tokens, in a bubble of time.
type scene struct {
	t *testing.T
	*provider
	a       *Authenticator
	outages []string
	mu      sync.Mutex
}

// play runs a test in a bubble.
func play(t *testing.T, test func(*scene)) {
	k := someKeys()
	synctest.Test(t, func(t *testing.T) {
		s := &scene{t: t, provider: newProvider("https://op.example", public("1", &k.rsa.PublicKey))}
		s.a = newAuthenticator(t, func(_ string, err error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.outages = append(s.outages, fmt.Sprint(err))
		}, of(s.provider, "corp"))
		test(s)
		s.a.Close() // before the bubble ends
	})
}

// token is one of that key, which lives for two days.
func (s *scene) token(kid string, key any) string {
	return sign(jose.RS256, key, claims{"kid": kid}, with(good(s.url), claims{"exp": time.Now().Add(2 * day).Unix()}))
}

// unknown is one that names a key that nobody has.
func (s *scene) unknown(n int) string {
	return raw(fmt.Sprintf(`{"alg":"RS256","kid":"k%d"}`, n), encode(good(s.url)), []byte("x"))
}

// expect shows a token, and says what should become of it, how long that may take, and
// what the provider should be asked for.
func (s *scene) expect(what, token, want string, within time.Duration, asked string) {
	s.t.Helper()
	began := time.Now()
	_, err := s.a.Authenticate(bearer(token))
	if got := outcome(err); got != want {
		s.t.Errorf("%s: %s (%v), want %s", what, got, err, want)
	}
	if took := time.Since(began); took > within {
		s.t.Errorf("%s: took %s", what, took)
	}
	synctest.Wait() // nobody may have waited for what was begun
	if got := s.requests(); got != asked {
		s.t.Errorf("%s: the provider was asked for %q, want %q", what, got, asked)
	}
}

// trust.md's 21: ten thousand tokens of unknown keys, from many clients at a time, cost
// two fetches in as many minutes.
func TestUnknownKeys(t *testing.T) {
	play(t, func(s *scene) {
		storm := func(from int) {
			var clients sync.WaitGroup
			for c := range 50 {
				clients.Go(func() {
					for i := range 100 {
						if _, err := s.a.Authenticate(bearer(s.unknown(from + 100*c + i))); outcome(err) != "refused" {
							s.t.Error(err)
						}
					}
				})
			}
			clients.Wait()
		}
		storm(0)
		if got := s.requests(); got != both {
			s.t.Errorf("asked for %q, want %q", got, both)
		}
		time.Sleep(between)
		s.expect("a minute old", s.unknown(1), "refused", 0, "")
		time.Sleep(time.Nanosecond)
		storm(5000)
		if got := s.requests(); got != "/jwks" {
			s.t.Errorf("then for %q, want the keys once", got)
		}
		s.expect("one of its own", s.token("1", someKeys().rsa), "accepted", 0, "")
	})
}

// What would not count whoever signed it makes nobody fetch.
func TestCheapRefusals(t *testing.T) {
	play(t, func(s *scene) {
		s.expect("expired", raw(`{"alg":"RS256","kid":"1"}`, encode(with(good(s.url), claims{"exp": 1})), []byte("x")), "refused", 0, "")
		s.expect("HS256", raw(`{"alg":"HS256","kid":"1"}`, encode(good(s.url)), []byte("x")), "refused", 0, "")
		s.expect("for another", raw(`{"alg":"RS256","kid":"1"}`, encode(with(good(s.url), claims{"aud": "x"})), []byte("x")), "refused", 0, "")
	})
}

// weir is there before its issuer: tokens cannot be checked until keys came once, and
// a fetch that failed is tried again after a second.
func TestIssuerDownAtStart(t *testing.T) {
	play(t, func(s *scene) {
		token := s.token("1", someKeys().rsa)
		const discovery = "/.well-known/openid-configuration"
		s.breaks(errors.New("connection refused"))
		s.expect("down", token, "unavailable", 0, discovery)
		s.expect("at once again", token, "unavailable", 0, "")
		time.Sleep(again - 1)
		s.expect("before a second", token, "unavailable", 0, "")
		time.Sleep(time.Nanosecond)
		s.expect("after a second", token, "unavailable", 0, discovery)
		s.breaks(nil)
		time.Sleep(again)
		s.expect("up", token, "accepted", 0, both)
		s.expect("known", token, "accepted", 0, "")
		synctest.Wait()
		if got := strings.Join(s.outages, "; "); got != "discovery: connection refused; <nil>" {
			t.Errorf("said of the outage: %s", got)
		}
	})
}

// Keys go on for a day through an outage, which slows nobody down once it is known.
func TestOutage(t *testing.T) {
	play(t, func(s *scene) {
		began := time.Now()
		token := s.token("1", someKeys().rsa)
		s.expect("up", token, "accepted", 0, both)
		s.breaks(errors.New("connection refused"))
		time.Sleep(fresh)
		s.expect("old keys", token, "accepted", 0, "/jwks")
		time.Sleep(2 * time.Minute)
		s.expect("still", token, "accepted", 0, "/.well-known/openid-configuration")
		s.expect("a new key", s.unknown(1), "unavailable", 0, "")
		time.Sleep(again)
		s.expect("a new key, a second later", s.unknown(1), "unavailable", 0, "/.well-known/openid-configuration")
		time.Sleep(kept - time.Since(began) - 1)
		s.expect("for a day", token, "accepted", 0, "/.well-known/openid-configuration")
		time.Sleep(time.Nanosecond)
		s.expect("no longer", token, "unavailable", 0, "")
		s.breaks(nil)
		time.Sleep(again)
		s.expect("up again", token, "accepted", 0, both)
		synctest.Wait()
		if len(s.outages) != 2 || s.outages[1] != "<nil>" {
			t.Errorf("said of the outage: %q", s.outages)
		}
	})
}

// An issuer that swallows requests delays a token whose key is there by two seconds at
// most, and only while it is not known to be away.
func TestSilentIssuer(t *testing.T) {
	play(t, func(s *scene) {
		token := func() string { return s.token("1", someKeys().rsa) }
		s.expect("up", token(), "accepted", 0, both)
		s.gate = make(chan struct{})
		time.Sleep(fresh)
		s.expect("silent", token(), "accepted", patience, "/jwks")
		s.expect("still silent", token(), "accepted", 0, "")
		time.Sleep(limit)
		s.expect("known to be silent", token(), "accepted", 0, "/.well-known/openid-configuration")
		s.expect("a new key", s.unknown(1), "unavailable", limit, "")
	})
}

// A new key counts when its token comes, once the last fetch is over a minute old; one
// that is withdrawn counts no more ten minutes later, for tokens that are known too.
func TestRotation(t *testing.T) {
	k := someKeys()
	play(t, func(s *scene) {
		first, second := s.token("1", k.rsa), s.token("2", k.rsa2)
		s.expect("the first key", first, "accepted", 0, both)
		s.publish(public("1", &k.rsa.PublicKey), public("2", &k.rsa2.PublicKey))
		s.expect("the second, too early", second, "refused", 0, "")
		time.Sleep(between + time.Nanosecond)
		s.expect("the second", second, "accepted", 0, "/jwks")
		s.expect("the first, still", first, "accepted", 0, "")
		s.publish(public("2", &k.rsa2.PublicKey))
		s.expect("the first, not known to be gone", first, "accepted", 0, "")
		time.Sleep(between + time.Nanosecond)
		s.expect("the first is in use", first, "accepted", 0, "")
		s.expect("somebody's unknown key", s.unknown(1), "refused", 0, "/jwks")
		s.expect("the first is gone", first, "refused", 0, "")
		s.expect("the second stays", second, "accepted", 0, "")
		s.publish(public("2", &k.rsa.PublicKey))
		time.Sleep(fresh)
		s.expect("another key of the same name", second, "refused", 0, "/jwks")
		s.publish()
		time.Sleep(fresh)
		s.expect("all are withdrawn", s.token("2", k.rsa), "refused", 0, "/jwks")
	})
}

// All who need keys wait for one fetch. It is not the request's that began it: that one
// may leave.
func TestOneFetch(t *testing.T) {
	play(t, func(s *scene) {
		s.gate = make(chan struct{})
		ctx, leave := context.WithCancel(s.t.Context())
		var clients sync.WaitGroup
		clients.Go(func() {
			_, err := s.a.Authenticate(bearer(s.token("1", someKeys().rsa)).WithContext(ctx))
			if outcome(err) != "unavailable" || !errors.Is(err, context.Canceled) {
				s.t.Errorf("who left: %v", err)
			}
		})
		synctest.Wait()
		for range 100 {
			clients.Go(func() {
				if _, err := s.a.Authenticate(bearer(s.token("1", someKeys().rsa))); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		leave()
		synctest.Wait()
		close(s.gate)
		clients.Wait()
		if got := s.requests(); got != both {
			t.Errorf("asked for %q, want %q", got, both)
		}
	})
}

// A fetch that runs ends when nobody wants it any more, and there is none after.
func TestClose(t *testing.T) {
	play(t, func(s *scene) {
		s.gate = make(chan struct{})
		token := s.token("1", someKeys().rsa)
		var clients sync.WaitGroup
		clients.Go(func() {
			if _, err := s.a.Authenticate(bearer(token)); outcome(err) != "unavailable" {
				t.Error(err)
			}
		})
		synctest.Wait()
		s.a.Close()
		clients.Wait()
		s.requests()
		time.Sleep(time.Hour)
		s.expect("closed", token, "unavailable", 0, "")
	})
}

// It is known for a minute, and not past its expiry, who a token is for.
func TestKnownTokens(t *testing.T) {
	play(t, func(s *scene) {
		k := someKeys()
		long, short := s.token("1", k.rsa), sign(jose.RS256, k.rsa, claims{"kid": "1"}, with(good(s.url), claims{"exp": time.Now().Unix() + 30}))
		s.expect("long", long, "accepted", 0, both)
		s.expect("short", short, "accepted", 0, "")
		issuers := s.a.issuers
		s.a.issuers = nil // so that only what is known counts
		time.Sleep(30*time.Second - 1)
		s.expect("short, known", short, "accepted", 0, "")
		time.Sleep(time.Nanosecond)
		s.expect("short, expired", short, "none", 0, "")
		time.Sleep(30*time.Second - 1)
		s.expect("long, known", long, "accepted", 0, "")
		time.Sleep(time.Nanosecond)
		s.expect("long, not any more", long, "none", 0, "")
		s.a.issuers = issuers
		s.expect("long, verified", long, "accepted", 0, "")
		s.expect("short, within the leeway", short, "accepted", 0, "")
		time.Sleep(30 * time.Second)
		s.expect("short, beyond it", short, "refused", 0, "")
		for n := range mostKnown + 100 {
			s.a.known.put(hashOf(fmt.Sprint(n)), verified{who: authz.Identity{ID: "x"}})
		}
		if n := s.a.known.tokens.Len(); n != mostKnown {
			t.Errorf("%d tokens are known", n)
		}
	})
}

// Keys that are confirmed are the same keys: what they verified stays known.
func TestConfirmedKeys(t *testing.T) {
	play(t, func(s *scene) {
		token := s.token("1", someKeys().rsa)
		s.expect("an unknown key", s.unknown(1), "refused", 0, both)
		time.Sleep(between)
		s.expect("verified", token, "accepted", 0, "")
		time.Sleep(time.Nanosecond)
		s.expect("an unknown key again", s.unknown(1), "refused", 0, "/jwks")
		s.a.issuers = nil // so that only what is known counts
		s.expect("known", token, "accepted", 0, "")
	})
}
