package token_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/token"
)

// Whom a token was issued to is whom it is read as, but for the method.
func TestCarriesWhoItIsOf(t *testing.T) {
	certificate := authz.Identity{ID: "mtls:ca:cn=ann", Username: "ann", Method: authz.MethodMTLS, Certificate: &authz.Certificate{CommonName: "ann"}}
	for kind, key := range keys(t) {
		t.Run(kind, func(t *testing.T) {
			i := token.New("weir", time.Hour, fixed(t, key))
			for _, who := range []authz.Identity{somebody(), certificate, {ID: "basic:ci", Username: "ci", Method: authz.MethodBasic}, {Method: authz.MethodNone}} {
				for _, scope := range []authz.Scope{nil, {}, pullOf("team/app")} {
					issued, err := i.Issue(t.Context(), who, scope)
					if err != nil {
						t.Fatal(err)
					}
					want := who
					want.Method, want.Scope = authz.MethodToken, scope
					if who.OIDC != nil {
						want.OIDC = who.OIDC.Summed()
					}
					if scope == nil {
						want.Scope = authz.Scope{} // which allows nothing, where nil allows all
					}
					for range 2 { // read, and known
						if got, err := i.Authenticate(bearer(issued.Token)); err != nil || !reflect.DeepEqual(got, want) {
							t.Errorf("%+v, %v\nwant %+v", got, err, want)
						}
					}
				}
			}
		})
	}
}

func TestExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := token.New("weir", 90*time.Second, fixed(t, secret))
		time.Sleep(300 * time.Millisecond)
		issued, err := i.Issue(t.Context(), somebody(), nil)
		if err != nil || issued.TTL != 90*time.Second {
			t.Fatal(issued.TTL, err)
		}
		other := token.New("weir", time.Hour, fixed(t, secret)) // a replica, which does not know it yet
		time.Sleep(time.Until(issued.At.Add(90*time.Second - time.Nanosecond)))
		for _, i := range []*token.Issuer{i, other} {
			if _, err := i.Authenticate(bearer(issued.Token)); err != nil {
				t.Errorf("a nanosecond before: %v", err)
			}
		}
		time.Sleep(time.Nanosecond)
		for _, i := range []*token.Issuer{i, other, token.New("weir", time.Hour, fixed(t, secret))} {
			if _, err := i.Authenticate(bearer(issued.Token)); !errors.Is(err, authz.ErrNone) {
				t.Errorf("when it has lapsed: %v", err)
			}
		}
	})
	if issued, err := token.New("weir", time.Second, fixed(t, secret)).Issue(t.Context(), somebody(), nil); err != nil || issued.TTL != token.LeastTTL {
		t.Error(issued.TTL, err)
	}
}

func TestTooMuchForAToken(t *testing.T) {
	who := somebody()
	who.OIDC.Claims["groups"] = strings.Repeat("a", token.MaxToken)
	if _, err := issuer(t).Issue(t.Context(), who, nil); err == nil {
		t.Error("issued a token that nobody would look at")
	}
}

func TestParseKeyRefuses(t *testing.T) {
	k := keys(t)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"none":        "",
		"short":       secret[:31],
		"bytes":       strings.Repeat("ä", 31),
		"a small RSA": pkcs8(t, small),
		"two":         k["RSA"] + k["P-256"],
		"no key":      "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
		"public":      "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n",
		"encrypted":   "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n",
		"garbled":     "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n",
		"cut":         k["RSA"][:100],
		"X25519":      "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VuBCIEIGhqRVYUtFN2UBnSXZRtnTpoQoDC4Nk3QyxRDPmUhzBw\n-----END PRIVATE KEY-----\n",
		"P-224":       "-----BEGIN EC PRIVATE KEY-----\nMGgCAQEEHMwBEgQ=\n-----END EC PRIVATE KEY-----\n",
	} {
		key, err := token.ParseKey(text)
		if err == nil || key != nil {
			t.Errorf("%s is taken", name)
		} else if text != "" && len(text) > 20 && strings.Contains(err.Error(), text[10:20]) {
			t.Errorf("%s is quoted: %v", name, err)
		}
	}
	if _, err := token.ParseKey("\n" + k["P-256"] + "\n\n"); err != nil {
		t.Errorf("lines around it: %v", err)
	}
}

// keeper keeps a value as a store does: whoever comes first.
type keeper struct {
	mu    sync.Mutex
	value []byte
	err   error
	calls int
}

func (k *keeper) Keep(_ context.Context, value []byte) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls++
	if k.err != nil {
		return nil, k.err
	}
	if k.value == nil {
		k.value = value
	}
	return k.value, nil
}

// A key that nobody wrote is made once for all replicas, when it is first needed, and is
// there after a restart. While it cannot be had, nothing can be said of tokens.
func TestKeptKey(t *testing.T) {
	k := &keeper{}
	replicas := make([]*token.Issuer, 8)
	for i := range replicas {
		replicas[i] = token.New("weir", time.Minute, token.Kept(k))
	}
	if k.calls != 0 {
		t.Error("a key is made that nobody needs")
	}
	tokens := make([]string, len(replicas))
	var all sync.WaitGroup
	for i, r := range replicas {
		all.Go(func() {
			issued, err := r.Issue(context.Background(), somebody(), nil)
			if err != nil {
				t.Error(err)
			}
			tokens[i] = issued.Token
		})
	}
	all.Wait()
	replicas = append(replicas, token.New("weir", time.Minute, token.Kept(k)))
	for _, r := range replicas {
		for _, text := range tokens {
			if _, err := r.Authenticate(bearer(text)); err != nil {
				t.Errorf("not known to another replica: %v", err)
			}
		}
	}
	if calls := k.calls; calls > len(replicas) {
		t.Errorf("asked %d times for %d replicas", calls, len(replicas))
	}

	away := errors.New("away")
	k.err = away
	late := token.New("weir", time.Minute, token.Kept(k))
	if _, err := late.Authenticate(bearer(tokens[0])); !errors.Is(err, authz.ErrUnavailable) || !errors.Is(err, away) {
		t.Errorf("without the key: %v", err)
	}
	if _, err := late.Authenticate(bearer("opaque")); !errors.Is(err, authz.ErrNone) {
		t.Errorf("without the key, what is no token of ours anyway: %v", err)
	}
	if _, err := late.Issue(t.Context(), somebody(), nil); !errors.Is(err, away) {
		t.Errorf("without the key: %v", err)
	}
	if _, err := replicas[0].Authenticate(bearer(tokens[1])); err != nil {
		t.Errorf("who has the key needs no store: %v", err)
	}
	k.err = nil
	if _, err := late.Authenticate(bearer(tokens[0])); err != nil {
		t.Errorf("with the store back: %v", err)
	}
	k.value = []byte("short")
	if _, err := token.New("weir", time.Minute, token.Kept(k)).Authenticate(bearer(tokens[0])); !errors.Is(err, authz.ErrUnavailable) {
		t.Errorf("with a key that is none: %v", err)
	}
}

// A written key is read again: what the old one signed does not count any more, and one
// that is no good never does.
func TestWrittenKey(t *testing.T) {
	other := keys(t)["RSA"]
	synctest.Test(t, func(t *testing.T) {
		text, failure := secret, error(nil)
		var complaints []string
		source, err := token.Written(func() (string, error) { return text, failure }, func(err error) { complaints = append(complaints, err.Error()) })
		if err != nil {
			t.Fatal(err)
		}
		i := token.New("weir", time.Hour, source)
		issue := func() string {
			t.Helper()
			issued, err := i.Issue(t.Context(), somebody(), nil)
			if err != nil {
				t.Fatal(err)
			}
			return issued.Token
		}
		want := func(when, text string, ok bool, complained int) {
			t.Helper()
			if _, err := i.Authenticate(bearer(text)); (err == nil) != ok || !ok && !errors.Is(err, authz.ErrNone) {
				t.Errorf("%s: %v", when, err)
			}
			if len(complaints) != complained {
				t.Errorf("%s: %q", when, complaints)
			}
		}
		first := issue()
		want("at first", first, true, 0)
		text = other
		want("within a second", first, true, 0)
		time.Sleep(time.Second)
		want("changed", first, false, 0)
		second := issue()
		want("with another key", second, true, 0)
		text = "short"
		for range 3 {
			time.Sleep(time.Second)
			want("no good", second, true, 1)
		}
		text, failure = "", errors.New("away")
		for range 3 {
			time.Sleep(time.Second)
			want("away", second, true, 2)
		}
		text, failure = secret, nil
		time.Sleep(time.Second)
		want("the first again", first, true, 2)
		want("the first again", second, false, 2)
	})
	for _, text := range []string{"", "short"} {
		if _, err := token.Written(func() (string, error) { return text, nil }, nil); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	for kind, key := range keys(b) {
		source := fixed(b, key)
		issued, err := token.New("weir", time.Hour, source).Issue(b.Context(), somebody(), pullOf("team/app"))
		if err != nil {
			b.Fatal(err)
		}
		r := bearer(issued.Token)
		b.Run(kind+"/known", func(b *testing.B) {
			i := token.New("weir", time.Hour, source)
			for b.Loop() {
				if _, err := i.Authenticate(r); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(kind+"/new", func(b *testing.B) {
			for b.Loop() {
				if _, err := token.New("weir", time.Hour, source).Authenticate(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
